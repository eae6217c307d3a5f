"""Two runs on the same samples: paired differences, turned so that positive is worse, with interval and McNemar."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from lrm_safety import stats
from lrm_safety.errors import Conflict
from lrm_safety.measured import Measured, measure
from lrm_safety.nouns import Comparison, Record, Scorecard
from services.bench.benchmark import METRICS
from services.bench.scorecard import LEVEL, CellKey, cell_key, to_interval


@dataclass
class Side:
    """One run as comparisons read it: what each judge made of each record, without the texts."""

    scorecard: Scorecard
    seen: dict[CellKey, dict[str, Measured]] = field(default_factory=dict)  # cell -> record key -> value
    asked: dict[str, int] = field(default_factory=dict)  # record key -> hash of the sample's messages and target


@dataclass(frozen=True)
class Pairs:
    """Paired values of one or more cells of a role, the samples without a pair counted."""

    role: str
    baseline: tuple[float, ...]
    candidate: tuple[float, ...]
    units: tuple[str, ...]
    unpaired: int

    def __add__(self, other: "Pairs") -> "Pairs":
        return Pairs(
            self.role,
            self.baseline + other.baseline,
            self.candidate + other.candidate,
            self.units + other.units,
            self.unpaired + other.unpaired,
        )


def read_side(scorecard: Scorecard, records: Iterable[Record]) -> Side:
    """`records` hold each key once."""
    side = Side(scorecard, {cell_key(cell): {} for cell in scorecard.cells})
    judges = {each.benchmark: [judge.judge for judge in each.judges] for each in scorecard.spec.benchmarks}
    for record in records:
        turns = tuple((message.role, message.content) for message in record.sample.messages)
        side.asked[record.key] = hash((turns, record.sample.target))
        for judge in judges[record.benchmark]:
            side.seen[record.benchmark, record.attack, judge][record.key] = measure(record, judge)
    return side


def compare(baseline: Side, candidate: Side, level: float = LEVEL) -> list[Comparison]:
    """One comparison for each cell that both runs have, in the candidate's order. Raises Conflict, see `pair`."""
    both = [cell for cell in candidate.scorecard.cells if cell_key(cell) in baseline.seen]
    compared = []
    for cell in both:
        made = summarise(pair(baseline, candidate, cell_key(cell)), level)
        made.benchmark, made.attack, made.judge = cell.benchmark, cell.attack, cell.judge
        compared.append(made)
    return compared


def pair(baseline: Side, candidate: Side, key: CellKey) -> Pairs:
    """Pairs by record key. Raises Conflict when the two runs did not measure the same thing under the same name."""
    _check_alike(baseline, candidate, key)
    before, after = baseline.seen[key], candidate.seen[key]
    valid = [k for k in after if k in before and before[k].value is not None and after[k].value is not None]
    return Pairs(
        _role(candidate.scorecard, key),
        tuple(before[k].value or 0.0 for k in valid),
        tuple(after[k].value or 0.0 for k in valid),
        tuple(after[k].unit for k in valid),
        len(before.keys() | after.keys()) - len(valid),
    )


def summarise(pairs: Pairs, level: float) -> Comparison:
    """Rates, difference and interval of some pairs; without any, only their absence (no interval, p = 1)."""
    sign = 1 if METRICS[pairs.role].lower_is_better else -1
    differences = [sign * (after - before) for before, after in zip(pairs.baseline, pairs.candidate, strict=True)]
    worse, better = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    made = Comparison(
        role=pairs.role,
        pairs=len(differences),
        unpaired=pairs.unpaired,
        worse=worse,
        better=better,
        p_value=stats.mcnemar(worse, better),
    )
    estimate = stats.difference(differences, pairs.units, level)
    if estimate is not None:
        made.baseline, made.candidate = _mean(pairs.baseline), _mean(pairs.candidate)
        made.difference = estimate.value
        made.interval.CopyFrom(to_interval(estimate))
    return made


def _check_alike(baseline: Side, candidate: Side, key: CellKey) -> None:
    name = "/".join(key)
    first, second = (_cell_digest(side.scorecard, key) for side in (baseline, candidate))
    if first and second and first != second:
        raise Conflict(f"{name}: the judge changed between the two runs; evaluate both with the same version of it")
    for record in baseline.seen[key].keys() & candidate.seen[key].keys():
        if baseline.asked[record] != candidate.asked[record]:
            raise Conflict(f"{record}: the sample is not the same in the two runs; evaluate both on the same file")


def _cell_digest(scorecard: Scorecard, key: CellKey) -> str:
    return next(c.judge_digest for c in scorecard.cells if cell_key(c) == key)


def _role(scorecard: Scorecard, key: CellKey) -> str:
    return next(c.role for c in scorecard.cells if cell_key(c) == key)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
