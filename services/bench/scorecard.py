"""Records -> Scorecard: a cell for each benchmark, attack and judge, with interval, n, invalid and truncated counts."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lrm_safety import stats
from lrm_safety.measured import measure
from lrm_safety.nouns import BenchSpec, Cell, Endpoint, Interval, Record, Scorecard
from services.bench.benchmark import METRICS

LEVEL = 0.95
CellKey = tuple[str, str, str]  # benchmark, attack, judge


def cell_key(cell: Cell) -> CellKey:
    return cell.benchmark, cell.attack, cell.judge


def build_scorecard(
    run: str,
    spec: BenchSpec,
    endpoint: Endpoint,
    records: Iterable[Record],
    seconds: float,
    planned: Mapping[tuple[str, str, str], int] | None = None,
) -> Scorecard:
    """`records` hold each key once; `spec` is resolved: its judges and attacks give the cells and their order.

    `planned`: (benchmark, attack, role) -> samples that a whole run has, where that is known.
    """
    tallies = {
        (each.benchmark, attack, judge.judge): _Tally()
        for each in spec.benchmarks
        for attack in each.attacks
        for judge in each.judges
    }
    card = Scorecard(
        run=run,
        endpoint=endpoint.name,
        checkpoint=endpoint.checkpoint,
        weights_digest=endpoint.weights_digest,
        spec=spec,
        created_at=time.time(),
        seconds=seconds,
    )
    judges = {each.benchmark: [judge.judge for judge in each.judges] for each in spec.benchmarks}
    for record in records:
        card.cached += record.completion.cached
        card.generated_tokens += 0 if record.completion.cached else record.completion.usage.completion_tokens
        for judge in judges[record.benchmark]:
            tallies[record.benchmark, record.attack, judge].add(record, judge)
    for (name, attack, role), count in (planned or {}).items():
        for judge in judges[name]:
            tallies[name, attack, judge].role, tallies[name, attack, judge].planned = role, count
    card.cells.extend(tally.cell(key, spec.seed) for key, tally in tallies.items() if tally.role)
    return card


def to_interval(estimate: stats.Estimate) -> Interval:
    return Interval(low=estimate.low, high=estimate.high, level=estimate.level, method=estimate.method)


@dataclass
class _Tally:
    role: str = ""
    values: list[float] = field(default_factory=list)
    units: list[str] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    digests: set[str] = field(default_factory=set)
    truncated: int = 0
    tokens: int = 0
    completions: int = 0
    planned: int = 0

    def add(self, record: Record, judge: str) -> None:
        self.role = record.role
        self.digests.update(each.judge_digest for each in record.verdicts if each.judge == judge and each.judge_digest)
        if not record.completion.error:
            self.completions += 1
            self.truncated += record.completion.finish_reason == "length"
            self.tokens += record.completion.usage.completion_tokens
        seen = measure(record, judge)
        if seen.value is None:
            self.reasons[seen.invalid] += 1
        else:
            self.values.append(seen.value)
            self.units.append(seen.unit)

    def cell(self, key: CellKey, seed: int) -> Cell:
        metric = METRICS[self.role]
        cell = Cell(
            benchmark=key[0],
            attack=key[1],
            judge=key[2],
            role=self.role,
            metric=metric.name,
            lower_is_better=metric.lower_is_better,
            n=len(self.values),
            invalid=self.reasons.total(),
            truncated=self.truncated,
            judge_digest=" ".join(sorted(self.digests)),  # more than one: the judge changed during the run
            mean_tokens=self.tokens / self.completions if self.completions else 0.0,
            invalid_reasons=dict(self.reasons),
            planned=self.planned,
        )
        estimate = stats.rate(self.values, self.units, LEVEL, seed)
        if estimate is not None:
            cell.value = estimate.value
            cell.interval.CopyFrom(to_interval(estimate))
        return cell
