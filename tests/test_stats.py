"""Intervals and tests against published and hand-computed values, invariants, and simulated coverage."""

from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from lrm_safety import stats
from lrm_safety.stats import Shown

counts = st.integers(0, 60)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)  # Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3
def test_wilson_matches_published_values(successes: int, n: int, low: float, high: float) -> None:
    assert stats.wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
def test_wilson_is_scipys_for_whole_counts(pair: tuple[int, int], level: float) -> None:
    low, high = binomtest(*pair).proportion_ci(level, method="wilson")
    assert stats.wilson(*pair, level) == pytest.approx((low, high), abs=1e-9)


@pytest.mark.parametrize(
    ("worse", "better", "n", "level", "low", "high"),
    [
        (0, 1, 44, 0.90, -0.096, 0.037),  # Tango 1998: contact lens disinfection, 43 + 0 + 1 + 0 pairs
        (1, 7, 21, 0.95, -0.517, -0.026),  # Fagerland et al. 2014: airway hyper-responsiveness, Bentur et al. 2009
        (28, 25, 618, 0.90, -0.0148, 0.0247),  # R: PropCIs::scoreci.mp(25, 28, 618, 0.9)
    ],
)
def test_tango_matches_published_values(worse: int, better: int, n: int, level: float, low: float, high: float) -> None:
    digits = len(str(low).split(".")[1])
    assert stats.tango(worse, better, n, level) == pytest.approx((low, high), abs=0.51 * 10**-digits)


def test_tango_without_discordant_pairs_is_as_wide_as_the_closed_form() -> None:
    z2 = 1.959963984540054**2
    assert stats.tango(0, 0, 50) == pytest.approx((-z2 / (50 + z2), z2 / (50 + z2)), abs=1e-6)


def test_tango_where_every_pair_differs() -> None:
    low, high = stats.tango(30, 0, 30)
    assert high == 1.0
    assert 0.7 < low < 1.0


def test_mcnemar_by_hand() -> None:
    assert stats.mcnemar(1, 9) == pytest.approx(2 * (comb(10, 0) + comb(10, 1)) / 2**10)
    assert stats.mcnemar(3, 3) == 1.0
    assert stats.mcnemar(0, 0) == 1.0


def test_nothing_measured_is_nothing() -> None:
    assert stats.wilson(0, 0) is None
    assert stats.rate([], []) is None
    assert stats.difference([], []) is None


def test_single_observations_get_the_plain_intervals() -> None:
    rate = stats.rate([1, 0, 0, 0], list("abcd"))
    assert rate is not None
    assert (rate.value, rate.n, rate.method) == (0.25, 4, "wilson")
    assert (rate.low, rate.high) == stats.wilson(1, 4)
    moved = stats.difference([1, -1, 1, 0], list("abcd"))
    assert moved is not None
    assert (moved.value, moved.method) == (0.25, "tango")
    assert (moved.low, moved.high) == stats.tango(2, 1, 4)


def test_repeats_of_one_sample_are_not_new_samples() -> None:
    values = [1.0, 0.0, 0.0, 1.0, 0.0] * 4
    alone = stats.rate(values, range(20))
    copied = stats.rate(values * 3, [*range(20)] * 3)
    assert alone is not None
    assert copied is not None
    assert copied.method == "wilson_cluster"
    assert copied.high - copied.low == pytest.approx(alone.high - alone.low, rel=0.1)


def test_design_effect_by_hand() -> None:
    groups = np.repeat(np.arange(10), 4)
    whole = np.repeat([1.0, 0, 1, 0, 1, 0, 1, 0, 1, 0], 4)
    assert stats.design_effect(whole, groups) == 4.0  # four copies of ten values
    assert stats.design_effect(np.tile([1.0, 0.0], 20), groups) == 1.0  # no group differs from another
    assert stats.design_effect(np.zeros(40), groups) == 4.0  # nothing seen: the careful end
    assert stats.design_effect(whole, np.arange(40)) == 1.0


def test_bootstrap_is_seeded_and_near_the_normal_interval() -> None:
    values = np.random.default_rng(0).uniform(0, 1, 200)
    first = stats.bootstrap(values, np.arange(200), 0.95, seed=1)
    assert first == stats.bootstrap(values, np.arange(200), 0.95, seed=1)
    assert first != stats.bootstrap(values, np.arange(200), 0.95, seed=2)
    half = 1.972 * values.std(ddof=1) / 200**0.5
    assert first == pytest.approx((values.mean() - half, values.mean() + half), abs=0.006)


def test_bootstrap_in_chunks_covers_all_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).uniform(0, 1, 50)
    whole = stats.bootstrap(values, np.arange(50), 0.9, seed=1)
    monkeypatch.setattr(stats, "CHUNK", 350)
    assert stats.bootstrap(values, np.arange(50), 0.9, seed=1) == pytest.approx(whole, abs=1e-12)


def test_graded_values_that_never_vary_still_have_an_interval() -> None:
    same = stats.rate([0.5] * 10, range(10))
    assert same is not None
    assert same.method == "bootstrap"
    assert same.low < 0.4
    assert same.high > 0.6
    moved = stats.difference([0.5] * 3, range(3))
    assert moved is not None
    assert moved.high == 1.0
    assert moved.low < 0.0


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (-0.05, 0.04, Shown.NOT_WORSE),
        (0.01, 0.04, Shown.NOT_WORSE),
        (0.01, 0.09, Shown.WORSE),
        (-0.02, 0.08, Shown.OPEN),
        (-0.02, 0.05, Shown.OPEN),
    ],
)
def test_margin_is_read_from_the_interval(low: float, high: float, shown: Shown) -> None:
    assert stats.judge_margin(low, high, margin=0.05) is shown


@given(up=counts, down=counts, same=counts, level=st.sampled_from([0.8, 0.9, 0.95, 0.99]))
@settings(max_examples=150, deadline=None)
def test_tango_holds_the_estimate_and_is_symmetric(up: int, down: int, same: int, level: float) -> None:
    n = up + down + same
    if n == 0:
        return
    low, high = stats.tango(up, down, n, level)
    assert -1 <= low <= (up - down) / n <= high <= 1
    assert high - low > 0
    assert stats.tango(down, up, n, level) == pytest.approx((-high, -low), abs=1e-9)


@given(values=st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=40), groups=st.integers(1, 10))
@settings(max_examples=60, deadline=None)
def test_rates_lie_in_their_interval(values: list[float], groups: int) -> None:
    rate = stats.rate(values, [index % groups for index in range(len(values))], 0.9)
    assert rate is not None
    assert -1e-9 <= rate.low <= rate.value + 1e-9
    assert rate.value - 1e-9 <= rate.high <= 1 + 1e-9


@pytest.mark.parametrize(
    ("n", "worse", "better"), [(30, 0.05, 0.02), (100, 0.02, 0.02), (100, 0.10, 0.30), (250, 0.04, 0.0)]
)
def test_paired_interval_covers_the_true_difference(n: int, worse: float, better: float) -> None:
    """90 % two-sided; and at most about 5 % of upper ends below the truth, which is what a gate relies on."""
    rng = np.random.default_rng(7)
    drawn = rng.multinomial(n, [worse, better, 1 - worse - better], size=2000)
    ends = {pair: stats.tango(*pair, n, 0.90) for pair in {(int(b), int(c)) for b, c, _ in drawn}}
    truth = worse - better
    found = [ends[int(b), int(c)] for b, c, _ in drawn]
    assert np.mean([low <= truth <= high for low, high in found]) >= 0.88
    assert np.mean([high < truth for _, high in found]) <= 0.062


@pytest.mark.parametrize(("units", "size"), [(30, 3), (100, 2), (60, 5)])
def test_intervals_cover_when_observations_come_in_families(units: int, size: int) -> None:
    """Differences of one unit agree in 80 % of cases: plain intervals would cover far less than 90 %."""
    rng = np.random.default_rng(11)
    names = [unit for unit in range(units) for _ in range(size)]
    covered = []
    for _ in range(400):
        whole = rng.choice([1, -1, 0], p=[0.1, 0.2, 0.7], size=(units, 1))
        own = rng.choice([1, -1, 0], p=[0.1, 0.2, 0.7], size=(units, size))
        differences = np.where(rng.random((units, size)) < 0.8, whole, own).ravel()
        estimate = stats.difference([float(each) for each in differences], names, 0.90)
        assert estimate is not None
        covered.append(estimate.low <= -0.1 <= estimate.high)
    assert np.mean(covered) >= 0.86


def test_graded_bootstrap_covers() -> None:
    rng = np.random.default_rng(5)
    covered = []
    for seed in range(300):
        values = rng.choice([0.0, 0.5, 1.0], p=[0.6, 0.3, 0.1], size=40)
        estimate = stats.rate([float(each) for each in values], range(40), 0.90, seed)
        assert estimate is not None
        covered.append(estimate.low <= 0.25 <= estimate.high)
    assert np.mean(covered) >= 0.87
