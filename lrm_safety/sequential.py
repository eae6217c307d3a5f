"""The sequential paired gate: reads paired differences in a pre-drawn order and stops when either claim is shown.

Two bets run side by side, one against "no worse" and one against "worse by the margin or more". A bet that multiplied
its stake by 1/α has refuted its hypothesis, at whatever moment one looks (Ville's inequality; `betting` has the rest).

With a plan the claims are about the mean over the plan's own units, the fixed items of a benchmark, as if all of them
had been run: drawn without replacement, what was read tells about what is left, and with all read nothing is open.
Without a plan they are about a wider population that the units are a random sample of, which takes more of them; a
plan's verdict read as one about such a population is wrong more often than α (benchmarks/README.md has how often).
Such a gate may end with nothing shown. It can keep a part of α for one last look at all samples, as many as were set
before: a test of a fixed number, whose error adds to that of the bets (union bound).
Neither frees a verdict of decoding noise: what flips when a model is run against itself is what the noise floor is for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, log

import numpy as np
from numpy.typing import NDArray

from lrm_safety.betting import Bets, Floats, Strata, mirrored, whole
from lrm_safety.errors import InvalidInput
from lrm_safety.stats import Shown, judge_margin, tango

MEANS = np.linspace(-1.0, 1.0, 401)  # which the interval's ends are found among
USUAL = 0.12  # share of the possible differences that are there, where no earlier checkpoint says otherwise
SEEN = 4.0  # as many units as that expectation counts for
OFTEN = 0.3  # a unit on which earlier checkpoints moved by this much on average flips often
KEPT = 0.2  # of α, for the last look
LEAST_WEIGHT = 0.25  # a unit predicted to be stable is drawn at least this often, against sqrt(variance) of the others


@dataclass(frozen=True)
class Known:
    """What is known of a unit before the candidate runs.

    `low` and `high`: the differences that the baseline's outcome leaves possible (positive = worse).
    `earlier`: the differences of earlier checkpoints against the same baseline's outcome, any number.
    """

    low: float = -1.0
    high: float = 1.0
    earlier: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class Plan:
    """The order in which units are run and read, drawn before the first result; `strata` are of the ordered units."""

    order: tuple[str, ...]
    strata: tuple[int, ...]
    table: Strata

    def weights(self, n: int) -> Floats:
        """Weights for any mean over the first n units, summing to 1: units expected to flip are drawn earlier, so
        a plain mean over those that were run is not the benchmark's (post-stratification: share of units / read)."""
        first = np.asarray(self.strata[:n], dtype=np.int64)
        read = np.bincount(first, minlength=self.table.sizes.shape[1])
        shares = self.table.sizes[0, first] / read[first]
        made: Floats = shares / shares.sum()
        return made


def known(baseline: float, lower_is_better: bool, earlier: Sequence[float] = ()) -> Known:
    """From outcomes in [0, 1]: the baseline's, and those of earlier checkpoints on the same unit."""
    sign = 1.0 if lower_is_better else -1.0
    low, high = sorted((sign * (0.0 - baseline), sign * (1.0 - baseline)))
    return Known(low, high, tuple(sign * (outcome - baseline) for outcome in earlier))


def draw_plan(units: Sequence[str], seed: int, history: Mapping[str, Known] | None = None) -> Plan:
    """A random order of the units, the same for the same arguments; a pure function, to be drawn before any result.

    A unit is what is independent: one sample, or a whole cluster (all attacks and repeats of one behaviour, whose
    difference is the mean over them). Units are grouped by what is known of them; those of which earlier checkpoints
    say that they flip come earlier, by drawing with weights ∝ predicted standard deviation without replacement.
    Source: Efraimidis & Spirakis, Inf. Proc. Letters 97 (2006) 181-185 (order by exponential times / weight).
    Raises InvalidInput for a unit named twice.
    """
    if len(set(units)) < len(units):
        raise InvalidInput(
            "the units of a plan are named twice; expected each once, with its cluster's mean difference"
        )
    facts = [(history or {}).get(unit, Known()) for unit in units]
    groups: dict[tuple[float, float, int], list[int]] = {}
    for index, each in enumerate(facts):
        groups.setdefault(_group(each), []).append(index)
    strata = np.empty(len(units), dtype=np.int64)
    for label, members in enumerate(groups.values()):
        strata[members] = label
    table = _tabulate([[facts[index] for index in members] for members in groups.values()])
    times = np.random.default_rng(seed).exponential(size=len(units)) / table.weights[0, strata]
    order = np.argsort(times, kind="stable")
    return Plan(tuple(units[index] for index in order), tuple(int(s) for s in strata[order]), table)


class PairedGate:
    """Reads differences in [-1, 1] (positive = worse) in the plan's order; `shown` and `interval` hold at any time.

    WORSE is shown at level `alpha_block` (`alpha` unless given), NOT_WORSE at level `alpha`, over all peeks together.
    `last`: without a plan, the number of units after which a last look is taken; 0 = none.
    """

    def __init__(
        self,
        margin: float,
        alpha: float = 0.05,
        plan: Plan | None = None,
        alpha_block: float | None = None,
        last: int = 0,
    ) -> None:
        self.n = 0
        self.shown: Shown | None = None
        self.plan = plan
        self._waiting: dict[str, float | None] = {}
        self._means = np.union1d(MEANS, [0.0, margin])
        self._zero, self._margin = (int(np.searchsorted(self._means, mean)) for mean in (0.0, margin))
        self._table = plan.table if plan else whole()
        self._worse = Bets(mirrored(self._table), -self._means)
        self._better = Bets(self._table, self._means)
        self._peak_worse, self._peak_better = (np.full(len(self._means), -np.inf) for _ in range(2))
        spent = 1 - KEPT if last else 1.0
        self._needed_worse, self._needed_better = -log(spent * (alpha_block or alpha)), -log(spent * alpha)
        self._last = _Last(last, margin, alpha, alpha_block or alpha) if last else None

    def arrive(self, unit: str, difference: float | None) -> Shown | None:
        """Takes a unit's result in whatever order it arrives; reads on as far as the plan's order allows, until shown.

        Reading results as they arrive would be biased: short answers are the first to finish, and mostly refusals.
        """
        order = self.plan.order if self.plan else ()
        self._waiting[unit] = difference
        while self.shown is None and self.n < len(order) and order[self.n] in self._waiting:
            self.update(self._waiting.pop(order[self.n]))
        return self.shown

    def update(self, difference: float | None) -> Shown | None:
        """Reads the next unit of the plan. None, a unit without a verdict, counts as the worst for either claim.

        Raises InvalidInput past the plan's end, and for a difference that what is known of the unit rules out.
        """
        stratum = self._next()
        low, high = float(self._table.low[0, stratum]), float(self._table.high[0, stratum])
        if difference is not None and not low - 1e-9 <= difference <= high + 1e-9:
            raise InvalidInput(
                f"a difference of {difference} where {low} to {high} is possible; expected the same units"
            )
        ends = (high, low) if difference is None else (difference, difference)
        self._better.read(np.array([stratum]), np.array([ends[0]]))
        self._worse.read(np.array([stratum]), -np.array([ends[1]]))
        self.n += 1
        self._look()
        if self._last and self.n <= self._last.at:
            self._last.read(*ends)
            self.shown = self.shown or (self._last.shown() if self.n == self._last.at else None)
        return self.shown

    def interval(self) -> tuple[float, float]:
        """Of the mean difference; low holds with 1 - alpha_block, high with 1 - alpha confidence, over all peeks.

        The means that no bet has refuted: Waudby-Smith & Ramdas 2024, section 4. Ends lie on a grid of half points;
        in between, each step of a bet moves with the mean, so what refutes a mean refutes all those beyond it.
        """
        refuted_low = self._means[self._peak_worse >= self._needed_worse]
        refuted_high = self._means[self._peak_better >= self._needed_better]
        low, high = float(refuted_low.max(initial=-1.0)), float(refuted_high.min(initial=1.0))
        if self._last is None or self.n < self._last.at:
            return low, high
        ends = self._last.interval()
        return max(low, ends[0]), min(high, ends[1])

    def e_values(self) -> tuple[float, float]:
        """The evidence now against "no worse" and against "worse by the margin or more"; infinite when impossible."""
        worse, better = self._worse.evidence()[0, self._zero], self._better.evidence()[0, self._margin]
        return _exp(float(worse)), _exp(float(better))

    def _next(self) -> int:
        if self.plan is None:
            return 0
        if self.n >= len(self.plan.strata):
            raise InvalidInput(f"the plan has {self.n} units and all are read; expected no more")
        return self.plan.strata[self.n]

    def _look(self) -> None:
        self._peak_worse = np.maximum(self._peak_worse, self._worse.evidence()[0])
        self._peak_better = np.maximum(self._peak_better, self._better.evidence()[0])
        if self.shown is None and self._peak_better[self._margin] >= self._needed_better:
            self.shown = Shown.NOT_WORSE
        elif self.shown is None and self._peak_worse[self._zero] >= self._needed_worse:
            self.shown = Shown.WORSE


@dataclass
class _Last:
    """Tango's test of all units. A graded difference counts as that part of a pair: d² ≤ |d|, so it varies no more."""

    at: int
    margin: float
    alpha: float
    alpha_block: float
    sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros((2, 2)))  # for either claim: worse, better

    def read(self, high: float, low: float) -> None:
        self.sums += [[max(0.0, end), max(0.0, -end)] for end in (high, low)]

    def interval(self) -> tuple[float, float]:
        (_, high), (low, _) = (
            tango(worse, better, self.at, 1 - 2 * KEPT * alpha)
            for (worse, better), alpha in zip(self.sums.tolist(), (self.alpha, self.alpha_block), strict=True)
        )
        return low, high

    def shown(self) -> Shown | None:
        found = judge_margin(*self.interval(), self.margin)
        return None if found is Shown.OPEN else found


def _group(each: Known) -> tuple[float, float, int]:
    """Units alike: the same possible differences (to a quarter), and as restless under earlier checkpoints."""
    moved = sum(map(abs, each.earlier)) / max(len(each.earlier), 1)
    restless = 0 if not each.earlier else 1 if moved == 0 else 2 if moved < OFTEN else 3
    return round(each.low * 4) / 4, round(each.high * 4) / 4, restless


def _tabulate(groups: list[list[Known]]) -> Strata:
    """Predictions for each group: its earlier differences, with the usual ones counted as SEEN further units."""
    rows = []
    for group in groups:
        low, high = min(each.low for each in group), max(each.high for each in group)
        seen = np.array([value for each in group for value in each.earlier])
        usual, power = USUAL * (low + high), USUAL * (low**2 + high**2)
        mean = (seen.sum() + SEEN * usual) / (len(seen) + SEEN)
        variance = ((seen**2).sum() + SEEN * power) / (len(seen) + SEEN) - mean**2
        rows.append((len(group), max(float(np.sqrt(variance)), LEAST_WEIGHT), low, high, mean, variance))
    return Strata(*(np.array([column]) for column in zip(*rows, strict=True)))


def _exp(logarithm: float) -> float:
    return exp(logarithm) if logarithm < 700 else float("inf")
