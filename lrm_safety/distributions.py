"""Quantiles and tails that intervals need, from the standard library alone: services start without a numerics stack."""

from collections.abc import Callable
from math import comb, cos, inf, pi, sin, sqrt, tan
from statistics import NormalDist

normal = NormalDist()


def student_quantile(p: float, degrees: int) -> float:
    """The t below which a Student variable of whole degrees of freedom lies with probability p, 0 < p < 1."""
    within = abs(2 * p - 1)  # P(|T| <= |t|)
    if within >= 1:
        return inf if p > 0.5 else -inf
    angle = root(lambda angle: student_within(angle, degrees) - within, 0.0, pi / 2)
    return sqrt(degrees) * tan(angle) * (1 if p > 0.5 else -1)


def student_within(angle: float, degrees: int) -> float:
    """P(|T| <= t) for whole degrees of freedom, where angle = atan(t / sqrt(degrees)).

    A finite series: Abramowitz & Stegun (1964), 26.7.3 and 26.7.4.
    """
    is_odd = degrees % 2
    term = cos(angle) if is_odd else 1.0
    total, squared = 0.0, cos(angle) ** 2
    for k in range(3 if is_odd else 2, degrees + 1, 2):
        total += term
        term *= squared * (k - 1) / k
        if term < 1e-18:
            break
    return 2 / pi * (angle + sin(angle) * total) if is_odd else sin(angle) * total


def sign_test(one_way: int, other_way: int) -> float:
    """Two-sided exact p-value of Binomial(one_way + other_way, 1/2); 1 without observations."""
    n, fewer = one_way + other_way, min(one_way, other_way)
    tail = sum(comb(n, k) for k in range(fewer + 1))
    return min(1.0, 2 * tail / 2**n) if n else 1.0


def root(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a monotone function is zero between two ends of opposite sign, to the last bit: halving."""
    rises = function(high) > 0
    while low < (middle := low + (high - low) / 2) < high:
        if (function(middle) > 0) == rises:
            high = middle
        else:
            low = middle
    return middle
