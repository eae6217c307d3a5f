"""The order in which samples are asked and read: drawn before the first answer, the same after every restart.

Within a role, units (samples with all their attacks and repeats, or families of prompts) stand in an order drawn by
`sequential.draw_plan`; the roles take turns. Results are read in this order and never as they arrive: short answers
come first and are mostly refusals, so whoever reads in order of arrival sees another model.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, zip_longest

from lrm_safety import sequential
from lrm_safety.sequential import Known, Plan, draw_plan
from services.bench.benchmark import METRICS
from services.bench.compare import Side

Units = dict[str, tuple[str, ...]]  # name -> record keys that are read together


def units_of(baseline: Side, role: str, left_out: Iterable[str] = ()) -> Units:
    """The units of a role."""
    found: dict[str, list[str]] = {}
    for cell in baseline.deciding(role):
        if cell.benchmark in set(left_out):
            continue
        for key, seen in baseline.seen[cell.benchmark, cell.attack, cell.judge].items():
            found.setdefault(seen.unit, []).append(key)
    return {name: tuple(sorted(found[name])) for name in sorted(found)}


def draw(units: Units, role: str, seed: int, known: dict[str, Known]) -> Plan:
    """The order of a role's units; `known`: of each, before the candidate runs."""
    number = int.from_bytes(hashlib.sha256(f"order/{seed}/{role}".encode()).digest()[:8], "big")
    return draw_plan(list(units), number, known)


def known_of(
    role: str, unit: Iterable[str], before: Mapping[str, float | None], earlier: Iterable[Mapping[str, float]] = ()
) -> Known:
    """Of a unit's record keys: the baseline's values, and those of earlier checkpoints that have all of them.

    Nothing is known of a unit without any verdict of the baseline.
    """
    usable = {key: value for key in unit if (value := before[key]) is not None}
    if not usable:
        return Known()
    whole = [[values[key] for key in usable] for values in earlier if usable.keys() <= values.keys()]
    return sequential.known(_mean(list(usable.values())), METRICS[role].lower_is_better, [_mean(v) for v in whole])


def take_turns(roles: Iterable[list[tuple[str, ...]]]) -> list[str]:
    """All record keys: one unit of each role after the other, for as long as a role has any."""
    rounds = zip_longest(*roles, fillvalue=())
    return list(chain.from_iterable(chain.from_iterable(rounds)))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
