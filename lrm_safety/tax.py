"""The safety tax: what each checkpoint, epoch, data mix or thinking budget gains in safety and pays in reasoning.

Runs are compared on the samples that all of them have a verdict on, and every resample reads all of them on the same
samples, so that what is hard for all is no noise between them. `compute` is the way in; shares are in [0, 1].
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import hypot, sqrt

import numpy as np
from numpy.typing import NDArray

from lrm_safety import stats
from lrm_safety.distributions import root
from lrm_safety.errors import Conflict, InvalidInput
from lrm_safety.measured import Measured, measure
from lrm_safety.nouns import Record, Scorecard

ROLES = ("harm", "over_refusal", "reasoning")
NEEDED = ("harm", "reasoning")
LOWER_IS_BETTER = {"harm": True, "over_refusal": True, "reasoning": False}
RESAMPLES = stats.RESAMPLES
LEVEL = 0.95
COINS = 2
Bools = NDArray[np.bool_]


@dataclass
class Point:
    """One run, as its first judges saw it."""

    run: str
    name: str
    seen: dict[str, dict[str, Measured]] = field(default_factory=lambda: {role: {} for role in ROLES})  # by record key
    asked: dict[str, int] = field(default_factory=dict)  # record key -> hash of the sample's messages and target
    judges: dict[str, str] = field(default_factory=dict)  # benchmark -> the deciding judge and its digests


@dataclass(frozen=True)
class Axis:
    """One role of one run on the shared samples; `change` is this run - baseline in the metric's own direction."""

    value: stats.Estimate
    change: stats.Estimate
    invalid: int  # samples of this run without a verdict


@dataclass(frozen=True)
class Price:
    """Points of reasoning for one point of safety; value and interval together, or `undefined` says why not."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    undefined: str = ""


@dataclass(frozen=True)
class Paid:
    """What one run comes to."""

    run: str
    name: str
    axes: Mapping[str, Axis]
    is_on_frontier: bool  # harm against reasoning, at the point estimates
    on_frontier: float  # probability
    on_frontier_of_three: float | None  # with over-refusal; None where it was not measured
    price: Price


@dataclass(frozen=True)
class Tax:
    """The runs in the order in which they were given; the first is the baseline."""

    runs: tuple[Paid, ...]
    left_out: Mapping[str, int]  # role -> samples that not every run has a verdict on
    resamples: int = RESAMPLES
    level: float = LEVEL


def read_point(card: Scorecard, records: Iterable[Record], name: str) -> Point:
    """A run without its texts. `records` hold each key once; of each benchmark the first judge decides.

    Raises Conflict for a run that stopped when a gate had seen enough: what it was asked depends on its answers.
    """
    if card.saved.skipped:
        raise Conflict(
            f"{card.run} stopped early, after {card.saved.dispatched:.0f} of {card.saved.planned:.0f} samples, when a "
            f"gate was decided; a trade-off needs all of them: measure {card.endpoint} without a gate first"
        )
    point = Point(card.run, name)
    deciding = {each.benchmark: each.judges[0].judge for each in card.spec.benchmarks if each.judges}
    for cell in card.cells:
        if deciding.get(cell.benchmark) == cell.judge:
            point.judges[cell.benchmark] = f"{cell.judge} {cell.judge_digest}".strip()
    for record in records:
        if record.role in ROLES and record.benchmark in deciding:
            point.seen[record.role][record.key] = measure(record, deciding[record.benchmark])
            if record.sample.messages:  # an imported run may be without texts
                turns = tuple((message.role, message.content) for message in record.sample.messages)
                point.asked[record.key] = hash((turns, record.sample.target))
    return point


def compute(points: Sequence[Point], seed: int = 0) -> Tax:
    """The trade-off of two or more runs; the first is the baseline.

    Axes are the means over all shared samples of a role, attacks pooled, with the intervals of stats.rate; changes are
    those of stats.difference. The probability of being on the frontier is the share of resamples in which a run is.

    Raises InvalidInput when they share no judged samples of harm or reasoning, Conflict when they did not measure the
    same thing under the same name.
    """
    _check(points)
    shared = {role: _shared(points, role) for role in ROLES}
    for role in NEEDED:
        if not shared[role]:
            raise InvalidInput(f"the runs share no sample of {role} with a verdict in each: measure all on one suite")
    values = {role: _values(points, role, keys) for role, keys in shared.items() if keys}
    units = {role: [points[0].seen[role][key].unit for key in shared[role]] for role in values}
    axes = {role: _axes(points, role, values[role], units[role]) for role in values}
    means = {role: values[role].mean(axis=1)[None, :] for role in values}
    drawn = {role: resample(values[role], units[role], seed + number) for number, role in enumerate(values)}
    estimate, chance = on_frontier(means, NEEDED)[0], on_frontier(drawn, NEEDED).mean(axis=0)
    three = on_frontier(drawn, ROLES).mean(axis=0) if "over_refusal" in values else None
    runs = (
        Paid(
            run=point.run,
            name=point.name,
            axes={role: axes[role][i] for role in axes},
            is_on_frontier=bool(estimate[i]),
            on_frontier=float(chance[i]),
            on_frontier_of_three=None if three is None else float(three[i]),
            price=_price(axes, i) if i else Price(undefined="the baseline"),
        )
        for i, point in enumerate(points)
    )
    everything = {role: set().union(*(point.seen[role] for point in points)) for role in ROLES}
    return Tax(tuple(runs), {role: len(everything[role]) - len(shared[role]) for role in ROLES})


def resample(values: stats.Floats, units: Sequence[str], seed: int) -> stats.Floats:
    """Means of each run on the same resamples: runs x samples in, resamples x runs out.

    Whole units are drawn; deviations from the estimate are stretched by sqrt(G / (G - 1)) for G units, which mends the
    bootstrap's shortness in small samples (Hesterberg, The American Statistician 69 (2015) 371-386). Two units of fair
    coins, tossed for each run on its own, are added to every resample: where two runs agreed on all samples, nothing
    else would say that they need not agree on the next (Agresti & Min, Statistics in Medicine 24 (2005) 729-740).
    """
    labels = {unit: number for number, unit in enumerate(dict.fromkeys(units))}
    groups = np.asarray([labels[unit] for unit in units], dtype=np.int64)
    n, estimate = len(labels), values.mean(axis=1)
    sums = np.stack([np.bincount(groups, row, n) for row in values], axis=1)  # units x runs
    sizes = np.bincount(groups, minlength=n).astype(np.float64)
    rng = np.random.default_rng(seed)
    rows = max(1, stats.CHUNK // n)
    drawn = []
    for start in range(0, RESAMPLES, rows):
        counts = rng.multinomial(n, np.full(n, 1 / n), size=min(rows, RESAMPLES - start)).astype(np.float64)
        drawn.append((counts @ sums) / (counts @ sizes)[:, None])
    stretched = estimate + (np.concatenate(drawn) - estimate) * sqrt(n / max(n - 1, 1))
    means: stats.Floats = (n * stretched + rng.binomial(COINS, 0.5, stretched.shape)) / (n + COINS)
    return means


def on_frontier(means: Mapping[str, stats.Floats], roles: Sequence[str]) -> Bools:
    """Which runs no other dominates: resamples x runs in, the same shape out.

    One dominates another that is no worse in every role and better in one; equal runs do not dominate each other.
    Source: Pareto, Manuale di economia politica (1906), VI.
    """
    n, n_runs = means[roles[0]].shape
    no_worse: Bools = np.ones((n, n_runs, n_runs), dtype=np.bool_)  # [., j, i]: j is no worse than i
    better: Bools = np.zeros((n, n_runs, n_runs), dtype=np.bool_)
    for role in roles:
        badness = np.round(means[role] if LOWER_IS_BETTER[role] else -means[role], 12)
        no_worse &= badness[:, :, None] <= badness[:, None, :]
        better |= badness[:, :, None] < badness[:, None, :]
    dominated: Bools = np.asarray((no_worse & better).any(axis=1))
    return ~dominated


def price(gain: stats.Estimate, cost: stats.Estimate) -> Price:
    """Points of reasoning paid for one point less harm: cost / gain, both against the baseline.

    The interval holds all R at which MOVER's interval of cost - R gain contains 0. It is made of the two differences'
    own intervals, which are independent since no sample measures both roles, and stays open where no pair differs and
    a bootstrap would shrink to a point. A ratio has no finite interval while its denominator may be 0: without a shown
    gain the price is undefined, never a number. Sources: Donner & Zou, Statistical Methods in Medical Research 21
    (2012) 347-359; Fieller, JRSS B 16 (1954) 175-185.
    """
    if gain.value <= 0:
        return Price(undefined="safety did not improve")
    if gain.low <= 0:
        return Price(undefined="a gain in safety is not shown")
    below, above = gain.value - gain.low, gain.high - gain.value

    def lower(ratio: float) -> float:
        return cost.value - ratio * gain.value - hypot(cost.value - cost.low, ratio * (above if ratio > 0 else below))

    def upper(ratio: float) -> float:
        return cost.value - ratio * gain.value + hypot(cost.high - cost.value, ratio * (below if ratio > 0 else above))

    value = cost.value / gain.value
    far = (abs(cost.low) + abs(cost.high)) / gain.low + 1
    return Price(value, root(lower, -far, value), root(upper, value, far))


def _price(axes: Mapping[str, Sequence[Axis]], i: int) -> Price:
    return price(_turned(axes["harm"][i].change), _turned(axes["reasoning"][i].change))


def _turned(change: stats.Estimate) -> stats.Estimate:
    return replace(change, value=-change.value, low=-change.high, high=-change.low)


def _axes(points: Sequence[Point], role: str, values: stats.Floats, units: Sequence[str]) -> list[Axis]:
    made = []
    for point, row in zip(points, values, strict=True):
        value = stats.rate(row.tolist(), units, LEVEL)
        change = stats.difference((row - values[0]).tolist(), units, LEVEL)
        assert value is not None and change is not None  # there is at least one sample
        made.append(Axis(value, change, sum(each.value is None for each in point.seen[role].values())))
    return made


def _shared(points: Sequence[Point], role: str) -> list[str]:
    """Keys with a verdict in every run, in the first one's order."""
    return [key for key in points[0].seen[role] if all(_is_judged(point.seen[role].get(key)) for point in points)]


def _is_judged(seen: Measured | None) -> bool:
    return seen is not None and seen.value is not None


def _values(points: Sequence[Point], role: str, keys: Sequence[str]) -> stats.Floats:
    return np.asarray([[point.seen[role][key].value for key in keys] for point in points], dtype=np.float64)


def _check(points: Sequence[Point]) -> None:
    if len(points) < 2:
        raise InvalidInput("one run has no price: name two or more, the baseline first")
    first, *others = points
    if len({point.run for point in points}) < len(points):
        raise InvalidInput("a run is named twice; name each once")
    for other in others:
        for benchmark in first.judges.keys() & other.judges.keys():
            if first.judges[benchmark] != other.judges[benchmark]:
                raise Conflict(
                    f"{benchmark}: {first.run} and {other.run} were not judged alike; evaluate both with one judge"
                )
        for key in first.asked.keys() & other.asked.keys():
            if first.asked[key] != other.asked[key]:
                raise Conflict(f"{key}: not the same sample in {first.run} and {other.run}; evaluate both on one file")
