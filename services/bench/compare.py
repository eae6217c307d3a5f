"""Two runs on the same samples: paired differences, turned so that positive is worse, with interval and test."""

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field

from lrm_safety import stats
from lrm_safety.errors import Conflict
from lrm_safety.measured import Measured, measure
from lrm_safety.nouns import Cell, Comparison, Interval, Record, Scorecard
from services.bench.benchmark import METRICS
from services.bench.scorecard import LEVEL, CellKey, cell_key, to_interval


@dataclass
class Side:
    """One run as comparisons read it: what each judge made of each record, without the texts."""

    scorecard: Scorecard
    seen: dict[CellKey, dict[str, Measured]] = field(default_factory=dict)  # cell -> record key -> value
    asked: dict[str, int] = field(default_factory=dict)  # record key -> hash of the sample's messages and target
    tokens: dict[str, int] = field(default_factory=dict)  # record key -> completion tokens
    truncated: set[str] = field(default_factory=set)  # record keys

    @property
    def is_whole(self) -> bool:
        """It has asked every sample that its spec asks for."""
        return not self.scorecard.saved.skipped

    def deciding(self, role: str = "") -> list[Cell]:
        """The cells of each benchmark's first judge, of one role or of all."""
        first = {each.benchmark: each.judges[0].judge for each in self.scorecard.spec.benchmarks}
        return [c for c in self.scorecard.cells if c.judge == first[c.benchmark] and role in ("", c.role)]


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
        if record.sample.messages:  # an imported run may be without texts
            side.asked[record.key] = asked(record)
        side.tokens[record.key] = record.completion.usage.completion_tokens
        if record.completion.finish_reason == "length":
            side.truncated.add(record.key)
        for judge in judges[record.benchmark]:
            side.seen[record.benchmark, record.attack, judge][record.key] = measure(record, judge)
    return side


def asked(record: Record) -> int:
    """Of the sample as it is put to the model, to see that two runs ask the same."""
    turns = tuple((message.role, message.content) for message in record.sample.messages)
    return hash((turns, record.sample.target))


def compare(baseline: Side, candidate: Side, level: float = LEVEL) -> list[Comparison]:
    """One comparison for each cell that both runs have, in the candidate's order. Raises Conflict, see `pair`."""
    both = [cell for cell in candidate.scorecard.cells if cell_key(cell) in baseline.seen]
    compared = []
    for cell in both:
        made = summarise(pair(baseline, candidate, cell_key(cell)), level)
        made.benchmark, made.attack, made.judge = cell.benchmark, cell.attack, cell.judge
        compared.append(made)
    tested = [each for each in compared if each.pairs]
    for made, adjusted in zip(tested, stats.holm([each.p_value for each in tested]), strict=True):
        made.p_adjusted = adjusted
    return compared


def is_same_question(first: Side, second: Side, key: CellKey, record: str) -> bool:
    """Whether a record of a cell that both have is of the same sample in both, read by the same judge."""
    both = first.asked.get(record), second.asked.get(record)
    is_asked = None not in both and both[0] == both[1]
    return is_asked and _cell_digest(first.scorecard, key) == _cell_digest(second.scorecard, key)


def pair(baseline: Side, candidate: Side, key: CellKey, only: Container[str] | None = None) -> Pairs:
    """Pairs by record key, of all records or of some. A run that stopped early is compared in what it has asked.

    Raises Conflict when the two runs did not measure the same thing under the same name.
    """
    _check_alike(baseline, candidate, key)
    before, after = baseline.seen[key], candidate.seen[key]
    both_whole = baseline.is_whole and candidate.is_whole
    keys = before.keys() | after.keys() if both_whole else before.keys() & after.keys()
    wanted = {k for k in keys if only is None or k in only}
    valid = [k for k in after if k in wanted and k in before and None not in (before[k].value, after[k].value)]
    return Pairs(
        _role(candidate.scorecard, key),
        tuple(before[k].value or 0.0 for k in valid),
        tuple(after[k].value or 0.0 for k in valid),
        tuple(after[k].unit for k in valid),
        len(wanted) - len(valid),
    )


def summarise(pairs: Pairs, level: float) -> Comparison:
    """Rates, difference and interval of some pairs; without any, only their absence (no interval, p = 1)."""
    sign = 1 if METRICS[pairs.role].lower_is_better else -1
    differences = [sign * (after - before) for before, after in zip(pairs.baseline, pairs.candidate, strict=True)]
    worse, better = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    made = Comparison(role=pairs.role, pairs=len(differences), unpaired=pairs.unpaired, worse=worse, better=better)
    units, is_binary = len(set(pairs.units)), set(differences) <= {-1.0, 0.0, 1.0}
    is_plain = is_binary and units == len(differences)
    made.p_value = stats.mcnemar(worse, better) if is_plain else stats.permutation(differences, pairs.units)
    least = stats.detectable(units, (worse + better) / max(1, len(differences)), (1 - level) / 2)
    if is_binary and least is not None:
        made.detectable = least
    estimate = stats.difference(differences, pairs.units, level)
    if estimate is not None:
        made.baseline, made.candidate = _mean(pairs.baseline), _mean(pairs.candidate)
        made.difference = estimate.value
        made.interval.CopyFrom(to_interval(estimate))
    return made


def worst_case(baseline: Side, candidate: Side, role: str, keys: Iterable[str]) -> Interval | None:
    """Ends of the difference were all samples without a verdict good, or all bad; None when none lacks one."""
    sides = [_values(side, role) for side in (baseline, candidate)]
    wanted = list(keys)
    before, after = ([values.get(key) for key in wanted] for values in sides)
    if not wanted or None not in before + after:
        return None
    bad = 1.0 if METRICS[role].lower_is_better else 0.0
    sign = 1 if METRICS[role].lower_is_better else -1
    ends = [sign * (_filled(after, of) - _filled(before, 1 - of)) for of in (1 - bad, bad)]
    return Interval(low=ends[0], high=ends[1], level=1.0, method="worst_case")


def _values(side: Side, role: str) -> dict[str, float | None]:
    cells = [side.seen[cell_key(cell)] for cell in side.deciding(role)]
    return {key: seen.value for cell in cells for key, seen in cell.items()}


def _filled(values: Sequence[float | None], instead: float) -> float:
    return _mean([instead if value is None else value for value in values])


def _check_alike(baseline: Side, candidate: Side, key: CellKey) -> None:
    name = "/".join(key)
    first, second = (_cell_digest(side.scorecard, key) for side in (baseline, candidate))
    if first and second and first != second:
        raise Conflict(f"{name}: the judge changed between the two runs; evaluate both with the same version of it")
    for record in baseline.seen[key].keys() & candidate.seen[key].keys():
        both = baseline.asked.get(record), candidate.asked.get(record)
        if None not in both and both[0] != both[1]:
            raise Conflict(f"{record}: the sample is not the same in the two runs; evaluate both on the same file")


def _cell_digest(scorecard: Scorecard, key: CellKey) -> str:
    return next(c.judge_digest for c in scorecard.cells if cell_key(c) == key)


def _role(scorecard: Scorecard, key: CellKey) -> str:
    return next(c.role for c in scorecard.cells if cell_key(c) == key)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
