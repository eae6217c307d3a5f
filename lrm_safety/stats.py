"""Rates with intervals, paired differences, and the non-inferiority decision: pure functions on numbers.

Nothing measured stays nothing: with n = 0 every function here answers None, never a rate. Observations of one unit (a
sample under several attacks or repeats, a family of prompts) are dependent; `units` says which belong together.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from lrm_safety.distributions import normal, root, sign_test, student_quantile

Floats = NDArray[np.float64]

RESAMPLES = 2000
CHUNK = 4_000_000  # resampled counts held at once
DRAWN = 10_000  # sign assignments
EXACT_UNITS = 16  # up to which all of them are tried
BINARY = (0.0, 1.0)
SIGNS = (-1.0, 0.0, 1.0)


@dataclass(frozen=True)
class Estimate:
    """A mean and its two-sided interval at `level`; `n` counts observations, not units."""

    value: float
    low: float
    high: float
    level: float
    method: str  # wilson | wilson_cluster | tango | tango_cluster | bootstrap
    n: int


class Shown(StrEnum):
    """What an interval of a worsening (positive = worse) shows about a margin."""

    NOT_WORSE = "not_worse"  # the whole interval lies below the margin
    WORSE = "worse"  # the whole interval lies above zero, and reaches the margin
    OPEN = "open"  # neither: too little data


def rate(values: Sequence[float], units: Sequence[Hashable], level: float = 0.95, seed: int = 0) -> Estimate | None:
    """Mean of values in [0, 1] with an interval; None when there are none.

    Values of 0 and 1 only get Wilson's interval, over the effective number of observations when units hold several
    (Rao & Scott 1992: n / design effect). Graded values get the cluster bootstrap.
    """
    if not values:
        return None
    y = np.asarray(values, dtype=np.float64)
    groups = _groups(units, len(y))
    mean = float(y.mean())
    if np.isin(y, BINARY).all():
        n_effective = len(y) / design_effect(y, groups)
        low, high = wilson(mean * n_effective, n_effective, level) or (0.0, 1.0)
        return Estimate(mean, low, high, level, _named("wilson", groups), len(y))
    low, high = bootstrap(y, groups, level, seed)
    few = _z(level) ** 2  # as many unseen observations as Wilson's interval adds, all 0 or all 1
    n_units = _count(groups)
    low = min(low, mean * n_units / (n_units + few))
    high = max(high, (mean * n_units + few) / (n_units + few))
    return Estimate(mean, low, high, level, "bootstrap", len(y))


def difference(
    differences: Sequence[float], units: Sequence[Hashable], level: float = 0.95, seed: int = 0
) -> Estimate | None:
    """Mean of paired differences in [-1, 1] with an interval; None when there are no pairs.

    Pairs of yes/no outcomes (differences -1, 0, 1) get Tango's score interval. It inverts the very test of
    non-inferiority that a gate asks for, keeps its level at the small counts and rates near 0 of safety evaluations,
    and stays open when no pair differs, where Wald's interval and the bootstrap shrink to a point and would let
    three samples pass a gate (Fagerland, Lydersen & Laake 2014 compare them). With several pairs a unit, counts are
    divided by the design effect. Graded outcomes get the cluster bootstrap, never narrower than Tango's interval
    for as many units without any difference: ± z² / (units + z²).
    """
    if not differences:
        return None
    d = np.asarray(differences, dtype=np.float64)
    groups = _groups(units, len(d))
    mean = float(d.mean())
    if np.isin(d, SIGNS).all():
        deff = design_effect(d, groups)
        low, high = tango(float((d > 0).sum()) / deff, float((d < 0).sum()) / deff, len(d) / deff, level)
        return Estimate(mean, low, high, level, _named("tango", groups), len(d))
    low, high = bootstrap(d, groups, level, seed)
    least = _z(level) ** 2 / (_count(groups) + _z(level) ** 2)
    return Estimate(
        mean, max(-1.0, min(low, mean - least)), min(1.0, max(high, mean + least)), level, "bootstrap", len(d)
    )


def wilson(successes: float, n: float, level: float = 0.95) -> tuple[float, float] | None:
    """Wilson's score interval for a proportion; None when n = 0. Counts may be fractional (effective sizes).

    Centre (p + z²/2n) / (1 + z²/n), half-width z sqrt(p(1-p)/n + z²/4n²) / (1 + z²/n).
    Source: Wilson, JASA 22 (1927) 209-212.
    """
    if n <= 0:
        return None
    z, p = _z(level), min(successes / n, 1.0)
    centre, half = p + z * z / (2 * n), z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def clopper_pearson(successes: int, n: int, level: float = 0.95) -> tuple[float, float] | None:
    """The exact interval for a proportion of whole counts, never short of its level; None when n = 0.

    Ends: the p at which P(X >= successes) and P(X <= successes), X ~ Binomial(n, p), are (1 - level) / 2.
    Source: Clopper & Pearson, Biometrika 26 (1934) 404-413.
    """
    if n <= 0:
        return None
    tail = (1 - level) / 2
    low = root(lambda p: _at_least(successes, n, p) - tail, 0.0, 1.0) if successes > 0 else 0.0
    high = root(lambda p: _at_least(n - successes, n, 1 - p) - tail, 0.0, 1.0) if successes < n else 1.0
    return low, high


def tango(worse: float, better: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Score interval for the difference of two paired proportions, (worse - better) / n.

    `worse` and `better` count the discordant pairs of `n`; fractional counts are fine. The ends are the δ at which
    |worse - better - nδ| = z sqrt(n (2 q(δ) + δ - δ²)), q being the maximum-likelihood estimate of P(better) given δ.
    Source: Tango, Statistics in Medicine 17 (1998) 891-908.
    """
    z = _z(level)
    return -_upper(better, worse, n, z), _upper(worse, better, n, z)


def bootstrap(values: Floats, groups: NDArray[np.int64], level: float, seed: int) -> tuple[float, float]:
    """Percentile interval of a mean, resampling whole groups (0-based labels), 2,000 times.

    Percentiles are widened by the t quantile and sqrt(n/(n-1)), which mends their shortness in small samples
    (Hesterberg, The American Statistician 69 (2015) 371-386). One group alone gives (min, max).
    """
    sums: Floats = np.bincount(groups, values).astype(np.float64)
    sizes: Floats = np.bincount(groups).astype(np.float64)
    n = len(sizes)
    if n < 2:
        return float(values.min()), float(values.max())
    rng = np.random.default_rng(seed)
    rows = max(1, CHUNK // n)
    means = np.concatenate(
        [_resampled(rng, sums, sizes, min(rows, RESAMPLES - start)) for start in range(0, RESAMPLES, rows)]
    )
    tail = normal.cdf(sqrt(n / (n - 1)) * student_quantile((1 - level) / 2, n - 1))
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def design_effect(values: Floats, groups: NDArray[np.int64]) -> float:
    """By how much dependence inside groups multiplies the variance of the mean; 1 without groups, at least 1 always.

    Variance of the ratio mean over groups (Taylor linearisation) / variance as if independent, kept between 1 and
    the value for wholly dependent groups, Σm²/n. Without any variance to measure it is the latter: the careful end.
    Source: Rao & Scott, Biometrics 48 (1992) 577-585; Kish, Survey Sampling (1965).
    """
    sizes = np.bincount(groups)
    n, n_groups = len(values), len(sizes)
    worst = float((sizes**2).sum()) / n
    residuals = values - values.mean()
    spread = float((residuals**2).sum()) / n**2
    if n_groups < 2 or spread == 0:
        return worst
    between = float((np.bincount(groups, residuals) ** 2).sum()) * n_groups / (n_groups - 1) / n**2
    return 1.0 if worst == 1.0 else min(max(between / spread, 1.0), worst)


def mcnemar(worse: int, better: int) -> float:
    """Exact two-sided p-value for paired outcomes: discordant pairs are as likely to go either way.

    Binomial(worse + better, 1/2); 1 when no pair differs. For graded outcomes this is the sign test. Units with several
    pairs make it too small: decisions use intervals. Source: McNemar, Psychometrika 12 (1947) 153-157.
    """
    return sign_test(worse, better)


def permutation(differences: Sequence[float], units: Sequence[Hashable], seed: int = 0) -> float:
    """Two-sided p-value for "no difference": each unit's differences, together, are as likely with either sign.

    The share of sign assignments with a sum at least as far from 0: all of them up to EXACT_UNITS units that differ,
    else (1 + those found) / (1 + 10,000 drawn), which keeps the level. Graded and clustered outcomes welcome; of single
    yes/no pairs it is McNemar's exact test. 1 when nothing differs. Source: Fisher, The Design of Experiments (1935),
    section 21; Phipson & Smyth, Stat. Appl. Genet. Mol. Biol. 9 (2010) 39.
    """
    d = np.asarray(differences, dtype=np.float64)
    sums: Floats = np.bincount(_groups(units, len(d)), d).astype(np.float64)
    sums = sums[np.abs(sums) > 1e-12]
    if not len(sums):
        return 1.0
    far = abs(float(sums.sum())) - 1e-9
    if len(sums) <= EXACT_UNITS:
        totals = np.zeros(1)
        for each in sums:
            totals = np.concatenate([totals + each, totals - each])
        return float((np.abs(totals) >= far).mean())
    rng, rows = np.random.default_rng(seed), max(1, CHUNK // len(sums))
    found = 0
    for start in range(0, DRAWN, rows):
        signs = rng.integers(0, 2, size=(min(rows, DRAWN - start), len(sums))) * 2.0 - 1.0
        found += int((np.abs(signs @ sums) >= far).sum())
    return (1 + found) / (1 + DRAWN)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values, in their order, adjusted so that any at most α keeps the chance of one false finding among all at α.

    Sorted upwards, p_(i) becomes the largest of (m - j + 1) p_(j), j <= i, at most 1; valid under any dependence.
    Source: Holm, Scandinavian Journal of Statistics 6 (1979) 65-70.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def detectable(n: int, discordance: float, alpha: float = 0.05, power: float = 0.8) -> float | None:
    """The smallest difference of paired yes/no outcomes that a one-sided test at α finds with this power; None if none.

    `discordance` is the share of the n pairs that differ. The δ with δ sqrt(n) = z_α sqrt(ψ) + z_β sqrt(ψ - δ²),
    at most ψ: all discordant pairs one way. Source: Connor, Biometrics 43 (1987) 207-211, solved for δ.
    """
    z_alpha, z_beta = normal.inv_cdf(1 - alpha), normal.inv_cdf(power)

    def excess(delta: float) -> float:
        return delta * sqrt(n) - z_alpha * sqrt(discordance) - z_beta * sqrt(max(discordance - delta**2, 0.0))

    return root(excess, 0.0, discordance) if n > 0 and discordance > 0 and excess(discordance) > 0 else None


def corrected(
    observed: tuple[float, float], hits: tuple[int, int], passes: tuple[int, int], level: float = 0.95
) -> tuple[float, float] | None:
    """The interval of a difference of rates freed from the judge's errors; None when they may be the whole of it.

    A judge that sees a share Se of what people see, and 1 - Sp of what they do not, turns a true rate p into
    p Se + (1 - p)(1 - Sp): a difference shrinks by J = Se + Sp - 1. `hits` are (seen, of) with people's yes, `passes`
    (not seen, of) with their no. `observed` at 1 - (1 - level) / 2, exact intervals of Se and Sp at 1 - (1 - level) / 4
    each: the quotients' outer ends hold together with `level` (Bonferroni). Both models need the same Se and Sp.
    Source: Rogan & Gladen, Am. J. Epidemiology 107 (1978) 71-76; Lang & Reiczigel, Prev. Vet. Med. 113 (2014) 13-22.
    """
    ends = [clopper_pearson(right, of, 1 - (1 - level) / 4) for right, of in (hits, passes)]
    if ends[0] is None or ends[1] is None:
        return None
    least, most = (ends[0][end] + ends[1][end] - 1 for end in (0, 1))
    if least <= 0:
        return None
    low, high = observed
    return max(-1.0, min(low / least, low / most)), min(1.0, max(high / least, high / most))


def judge_margin(low: float, high: float, margin: float) -> Shown:
    """Reads the interval of a worsening against the largest one that is acceptable.

    An interval at level 1 - 2α makes each of the two readings a one-sided test at α. A worsening that is real but
    surely below the margin is acceptable. Source: Piaggio et al. (CONSORT), JAMA 308 (2012) 2594-2604.
    """
    if high < margin:
        return Shown.NOT_WORSE
    return Shown.WORSE if low > 0 else Shown.OPEN


def _upper(up: float, down: float, n: float, z: float) -> float:
    """The δ above (up - down)/n at which Tango's score is -z."""
    estimate = (up - down) / n

    def beyond(delta: float) -> float:
        b = -up - down + (2 * n - up + down) * delta
        q = (sqrt(max(b * b + 8 * n * down * delta * (1 - delta), 0.0)) - b) / (4 * n)
        return up - down - n * delta + z * sqrt(max(n * (2 * q + delta - delta * delta), 0.0))

    start = estimate + 1e-9  # with no discordant pair the estimate itself is a second, spurious root
    return root(beyond, start, 1.0) if start < 1 and beyond(1.0) < 0 else 1.0


def _at_least(successes: int, n: int, p: float) -> float:
    """P(X >= successes), X ~ Binomial(n, p)."""
    if p <= 0 or p >= 1:
        return float(p >= 1 or successes <= 0)
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    k = np.arange(successes, n + 1)
    return float(np.exp(logs[n] - logs[k] - logs[n - k] + k * np.log(p) + (n - k) * np.log1p(-p)).sum())


def _resampled(rng: np.random.Generator, sums: Floats, sizes: Floats, rows: int) -> Floats:
    n = len(sizes)
    counts = rng.multinomial(n, np.full(n, 1 / n), size=rows).astype(np.float64)
    means: Floats = (counts @ sums) / (counts @ sizes)
    return means


def _groups(units: Sequence[Hashable], n: int) -> NDArray[np.int64]:
    if len(units) != n:
        raise ValueError(f"{n} values with {len(units)} units; expected one unit a value")
    labels: dict[Hashable, int] = {}
    return np.asarray([labels.setdefault(unit, len(labels)) for unit in units], dtype=np.int64)


def _count(groups: NDArray[np.int64]) -> int:
    return int(groups.max()) + 1


def _named(method: str, groups: NDArray[np.int64]) -> str:
    return method if _count(groups) == len(groups) else f"{method}_cluster"


def _z(level: float) -> float:
    return normal.inv_cdf((1 + level) / 2)
