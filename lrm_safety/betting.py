"""Bets on a mean: evidence against "the mean is at least this much" that may be looked at after every observation.

Waudby-Smith & Ramdas, JRSS B 86 (2024) 1-27 (betting); NeurIPS 33 (2020) (drawing without replacement); Shekhar, Xu,
Lipton, Liang & Ramdas, UAI (2023) (weighted drawing and control variates). Arrays have a first axis of parallel runs.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

WIDER = 1e12  # a stratum so large that nothing read changes what is left
TRUST = 6.0  # as many observations as a prediction from history counts for
GAPS = np.array([0.04, 0.07, 0.1, 0.15, 0.22, 0.35])  # how far below the hypothesis the mean may truly lie
SHARE = 0.9  # of the bet that the worst possible unit left would turn into nothing


@dataclass(frozen=True)
class Strata:
    """Units alike in what is known before they run; arrays (runs or 1, strata), values of units in [low, high]."""

    sizes: Floats
    weights: Floats  # of a unit against others in the drawing
    low: Floats
    high: Floats
    means: Floats  # predicted
    variances: Floats  # predicted, around the predicted mean


def whole(low: float = -1.0, high: float = 1.0, size: float = WIDER) -> Strata:
    """One stratum of units of which nothing is known, by default of a wider population."""
    one = np.ones((1, 1))
    middle = (low + high) / 2
    return Strata(size * one, one, low * one, high * one, middle * one, 0.3 * one)


def mirrored(strata: Strata) -> Strata:
    """The same units with every value negated."""
    return Strata(strata.sizes, strata.weights, -strata.high, -strata.low, -strata.means, strata.variances)


class Bets:
    """A mixture of bets against "the mean over all units is at least null", one mixture a null.

    Units are drawn without replacement, u of stratum s with probability q(u) = w_s / Σ w over the R units left. With a
    prediction p_s, fixed before the draw, x = (d_u - p_s) / (R q(u)) has mean μ = (what is left to the mean - Σ p) / R,
    at least η = (N null - read - Σ p) / R under the hypothesis. The stake is multiplied by 1 + λ(η - x), λ >= 0 fixed
    before the draw and small enough that no unit left makes it negative: a supermartingale under the hypothesis.
    The λ are Kelly's for a mean `gap` below: γ / (σ² + γ²), γ = N gap / R, σ² the predicted variance of x.
    """

    def __init__(self, strata: Strata, nulls: Floats, runs: int = 1) -> None:
        self.nulls = nulls
        self.wealth: Floats = np.zeros((runs, len(nulls), len(GAPS)))  # logarithms
        self._strata = strata
        shape = (runs, strata.sizes.shape[1])
        self._left = np.broadcast_to(strata.sizes, shape).astype(np.float64)
        self._total: Floats = self._left.sum(axis=1)
        self._read = np.zeros(runs)
        self._count, self._sum = np.zeros(shape), np.zeros(shape)
        self._squares = np.zeros(shape)

    def evidence(self) -> Floats:
        """Logarithm of the wealth of the mixture, (runs, nulls): above log(1/α) refutes the null at level α."""
        peak = self.wealth.max(axis=2)
        scale = np.where(np.isfinite(peak), peak, 0.0)
        with np.errstate(over="ignore"):
            made: Floats = scale + np.log(np.exp(self.wealth - scale[:, :, None]).mean(axis=2))
        return made

    def read(self, stratum: NDArray[np.int64], values: Floats) -> None:
        """The next unit of every run: the strata they are of and their values, (runs,)."""
        s, rows = self._strata, np.arange(len(values))
        predicted = np.clip((TRUST * s.means + self._sum) / (TRUST + self._count), s.low, s.high)
        spread = (TRUST * s.variances + self._squares) / (TRUST + self._count)
        left, mass = self._left.sum(axis=1), (self._left * s.weights).sum(axis=1)
        scale = (mass / left)[:, None] / s.weights  # 1 / (R q) for each stratum
        x = scale[rows, stratum] * (values - predicted[rows, stratum])
        rest = (self._left * predicted).sum(axis=1)
        eta = (self._total[:, None] * self.nulls - (self._read + rest)[:, None]) / left[:, None]
        largest = np.where(self._left > 0, scale * (s.high - predicted), -np.inf).max(axis=1)
        variance = (self._left * scale * spread).sum(axis=1) / left
        self._bet(eta, x, largest, variance, left)
        error = values - predicted[rows, stratum]
        self._count[rows, stratum] += 1
        self._sum[rows, stratum] += values
        self._squares[rows, stratum] += error**2
        self._left[rows, stratum] -= 1
        self._read += values
        possible = self._read + (self._left * s.high).sum(axis=1)
        self.wealth[self._total[:, None] * self.nulls > possible[:, None] + 1e-9] = np.inf

    def _bet(self, eta: Floats, x: Floats, largest: Floats, variance: Floats, left: Floats) -> None:
        gap = (self._total / left)[:, None, None] * GAPS
        kelly = gap / (variance[:, None, None] + gap**2)
        room = np.maximum(largest[:, None] - eta, 1e-9)[:, :, None]
        bet = np.minimum(kelly, SHARE / room)
        self.wealth += np.log1p(bet * (eta - x[:, None])[:, :, None])
