"""What a judge's measured errors do to a difference of rates.

A judge that sees a share Se of what people see, and 1 - Sp of what they do not, turns a true rate p into
p Se + (1 - p)(1 - Sp). With the same errors on both models a difference shrinks by J = Se + Sp - 1 (Youden) and keeps
its sign: worse is worse, but "below the margin" has to mean below margin x J. J is known from counts only, so the gate
uses its lower end and pays for it with half of α. Where several judges speak for a role, each shrinks its own part, and
what they see together may have another sign than what is there: nothing is known of their sum.
Source: Rogan & Gladen, Am. J. Epidemiology 107 (1978) 71-76.

    calibrations/<judge digest>/calibration.json
"""

from collections.abc import Iterable
from dataclasses import dataclass

from lrm_safety import jsonl, stats
from lrm_safety.nouns import Agreement, Calibration
from lrm_safety.store import ObjectStore


@dataclass(frozen=True)
class Sharpness:
    """Youden's J of a judge: as measured, and its lower one-sided end; right answers among people's yes and no."""

    value: float
    low: float
    hits: tuple[int, int] = (0, 0)
    passes: tuple[int, int] = (0, 0)


PERFECT = Sharpness(1.0, 1.0)
UNKNOWN = Sharpness(0.0, 0.0)


def read_calibrations(store: ObjectStore, digests: Iterable[str]) -> dict[str, Calibration]:
    """Judge digest -> its calibration, for those that have one."""
    keys = {digest: f"calibrations/{digest}/calibration.json" for digest in set(digests)}
    return {digest: jsonl.loads(Calibration, store.read(key)) for digest, key in keys.items() if store.stat(key)}


def sharpness(calibration: Calibration, alpha: float) -> Sharpness:
    """J and its lower end at one-sided `alpha`, half of it for each share (exact); without counts nothing is known."""
    every = [each for each in calibration.agreements if not each.category] or list(calibration.agreements)
    hits = sum(each.true_positives for each in every), sum(_positives(each) for each in every)
    passes = sum(each.true_negatives for each in every), sum(_negatives(each) for each in every)
    shares = [stats.clopper_pearson(right, of, 1 - alpha) for right, of in (hits, passes)]
    if shares[0] is None or shares[1] is None:
        return UNKNOWN
    value = hits[0] / hits[1] + passes[0] / passes[1] - 1
    return Sharpness(max(0.0, value), max(0.0, shares[0][0] + shares[1][0] - 1), hits, passes)


def _positives(agreement: Agreement) -> int:
    return agreement.true_positives + agreement.false_negatives


def _negatives(agreement: Agreement) -> int:
    return agreement.true_negatives + agreement.false_positives
