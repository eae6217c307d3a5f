"""The sequential paired gate: reads paired differences one by one in a pre-drawn order and stops when either is shown.

Two bets run side by side, one against "no worse" and one against "worse by the margin or more". A bet that multiplied
its stake by 1/α has refuted its hypothesis, at whatever moment one looks (Ville's inequality).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, log

import numpy as np
from numpy.typing import NDArray

from lrm_safety.stats import Shown

Floats = NDArray[np.float64]

BETS = np.linspace(0.02, 0.98, 25)  # shares of the largest bet that cannot lose everything
MEANS = np.linspace(-1.0, 1.0, 401)


@dataclass(frozen=True)
class Known:
    """What is known of a unit before the candidate runs: the differences possible, given the baseline's outcome, and
    those of earlier checkpoints against the same baseline."""

    low: float = -1.0
    high: float = 1.0
    earlier: tuple[float, ...] = ()


@dataclass(frozen=True)
class Plan:
    """The order in which units are run and read: drawn before the first result, the same for the same seed."""

    order: tuple[str, ...]


def draw_plan(units: Sequence[str], seed: int, known: Mapping[str, Known] | None = None) -> Plan:
    """A random order of the units, which are whole clusters where samples depend on one another."""
    order = np.random.default_rng(seed).permutation(len(units))
    return Plan(tuple(units[index] for index in order))


class PairedGate:
    """Reads differences in [-1, 1] (positive = worse) in the plan's order; see `shown` and `interval` at any time.

    WORSE is shown at level `alpha_block` (`alpha` unless given), NOT_WORSE at level `alpha`, at every peek together.
    """

    def __init__(
        self, margin: float, alpha: float = 0.05, plan: Plan | None = None, alpha_block: float | None = None
    ) -> None:
        self.n = 0
        self.shown: Shown | None = None
        self._margin, self._plan = margin, plan
        self._levels = (alpha_block or alpha, alpha)
        self._means = np.union1d(MEANS, [0.0, margin])
        self._wealth = np.zeros((2, len(self._means), len(BETS)))  # logarithms; worse, then better than each mean
        self._low, self._high = -1.0, 1.0
        self._waiting: dict[str, float | None] = {}

    def arrive(self, unit: str, difference: float | None) -> Shown | None:
        """Takes a unit's result in whatever order it arrives and reads on as far as the plan's order allows."""
        if self._plan is None:
            raise ValueError("the gate has no plan; expected one to read arrivals in its order")
        self._waiting[unit] = difference
        order = self._plan.order
        while self.shown is None and self.n < len(order) and order[self.n] in self._waiting:
            self.update(self._waiting.pop(order[self.n]))
        return self.shown

    def update(self, difference: float | None) -> Shown | None:
        """Reads the next unit of the plan. None, a unit without a verdict, counts as the worst for either claim."""
        worst = (-1.0, 1.0) if difference is None else (difference, difference)
        for side, (sign, value) in enumerate(zip((1.0, -1.0), worst, strict=True)):
            means = sign * self._means
            largest = 1.0 / (1.0 + np.maximum(means, -1.0 + 1e-9))
            self._wealth[side] += np.log1p(BETS * largest[:, None] * (sign * value - means)[:, None])
        self.n += 1
        self._look()
        return self.shown

    def interval(self) -> tuple[float, float]:
        """Anytime-valid: low with 1 - alpha_block, high with 1 - alpha confidence, both over all peeks."""
        return self._low, self._high

    def e_values(self) -> tuple[float, float]:
        """The evidence against "no worse" and against "worse by the margin or more"."""
        totals = self._totals()
        at = np.searchsorted(self._means, [0.0, self._margin])
        return float(np.exp(totals[0, at[0]])), float(np.exp(totals[1, at[1]]))

    def _totals(self) -> Floats:
        totals: Floats = np.logaddexp.reduce(self._wealth, axis=2) - log(len(BETS))
        return totals

    def _look(self) -> None:
        totals = self._totals()
        worse = self._means[totals[0] < -log(self._levels[0])]
        better = self._means[totals[1] < -log(self._levels[1])]
        self._low = max(self._low, float(worse.min(initial=inf)))
        self._high = min(self._high, float(better.max(initial=-inf)))
        if self.shown is None and self._high < self._margin:
            self.shown = Shown.NOT_WORSE
        elif self.shown is None and self._low > 0:
            self.shown = Shown.WORSE
