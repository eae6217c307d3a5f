"""Intervals and tests against scipy, published and hand-computed values, invariants, and simulated coverage."""

from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, permutation_test

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
@settings(max_examples=150)
def test_tango_holds_the_estimate_and_is_symmetric(up: int, down: int, same: int, level: float) -> None:
    n = up + down + same
    if n == 0:
        return
    low, high = stats.tango(up, down, n, level)
    assert -1 <= low <= (up - down) / n <= high <= 1
    assert high - low > 0
    assert stats.tango(down, up, n, level) == pytest.approx((-high, -low), abs=1e-9)


@given(values=st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=40), groups=st.integers(1, 10))
@settings(max_examples=60)
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


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
def test_clopper_pearson_is_scipys(pair: tuple[int, int], level: float) -> None:
    low, high = binomtest(*pair).proportion_ci(level, method="exact")
    assert stats.clopper_pearson(*pair, level) == pytest.approx((low, high), abs=1e-9)


def test_clopper_pearson_at_its_ends() -> None:
    assert stats.clopper_pearson(0, 20) == pytest.approx((0.0, 1 - 0.025 ** (1 / 20)))
    assert stats.clopper_pearson(9, 0) is None
    narrow, wide = stats.wilson(30, 3000), stats.clopper_pearson(30, 3000)
    assert narrow is not None
    assert wide is not None
    assert wide[0] < narrow[0] < 0.01 < narrow[1] < wide[1] + 0.001


def test_permutation_of_single_pairs_is_mcnemar() -> None:
    for worse, better in ((1, 9), (5, 6), (3, 3), (0, 0), (0, 12)):
        differences = [1.0] * worse + [-1.0] * better + [0.0] * 5
        assert stats.permutation(differences, range(len(differences))) == pytest.approx(stats.mcnemar(worse, better))
    many = [1.0] * 40 + [-1.0] * 20
    assert stats.permutation(many, range(60), seed=1) == pytest.approx(stats.mcnemar(40, 20), abs=0.005)


def test_permutation_of_graded_families_is_scipys() -> None:
    differences = np.random.default_rng(3).choice([-0.5, 0.0, 0.25, 1.0], size=30)
    units = [index // 3 for index in range(30)]
    sums = differences.reshape(10, 3).sum(axis=1)
    exact = permutation_test((sums,), np.sum, permutation_type="samples", n_resamples=np.inf)
    assert stats.permutation(differences.tolist(), units) == pytest.approx(exact.pvalue)


def test_holm_by_hand() -> None:
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([0.9, 0.6]) == [1.0, 1.0]
    assert stats.holm([]) == []


@pytest.mark.parametrize(("n", "discordance"), [(400, 0.2), (300, 0.1), (1000, 0.3)])
def test_the_detectable_difference_is_found_as_often_as_said(n: int, discordance: float) -> None:
    delta = stats.detectable(n, discordance, alpha=0.05, power=0.8)
    assert delta is not None
    rng = np.random.default_rng(1)
    counts = rng.multinomial(n, [(discordance + delta) / 2, (discordance - delta) / 2, 1 - discordance], size=4000)
    scores = (counts[:, 0] - counts[:, 1]) / np.sqrt(counts[:, 0] + counts[:, 1])
    assert np.mean(scores > 1.645) == pytest.approx(0.8, abs=0.04)


def test_too_few_pairs_detect_nothing() -> None:
    assert stats.detectable(10, 0.05) is None
    assert stats.detectable(0, 0.5) is None
    assert stats.detectable(100, 0.0) is None


def test_correction_for_the_judge_covers_the_true_difference() -> None:
    """Planted: Se 0.85, Sp 0.9, each counted on 120 labels; the rate truly rises from 0.2 to 0.4."""
    rng, covered, naive = np.random.default_rng(8), [], []
    for _ in range(250):
        rates = [p * 0.85 + (1 - p) * 0.1 for p in (0.2, 0.4)]
        before, after = (rng.random(600) < rate for rate in rates)
        worse, better = int((after & ~before).sum()), int((before & ~after).sum())
        hits, passes = (int(rng.binomial(120, share)) for share in (0.85, 0.9))
        found = stats.corrected(stats.tango(worse, better, 600, 0.95), (hits, 120), (passes, 120), 0.9)
        assert found is not None
        covered.append(found[0] <= 0.2 <= found[1])
        low, high = stats.tango(worse, better, 600, 0.9)
        naive.append(low <= 0.2 <= high)
    assert np.mean(covered) >= 0.9
    assert np.mean(naive) < 0.6


def test_a_judge_known_too_little_corrects_nothing() -> None:
    assert stats.corrected((0.1, 0.2), (2, 3), (2, 3)) is None
    assert stats.corrected((0.1, 0.2), (0, 0), (9, 9)) is None
    sharp = stats.corrected((0.1, 0.2), (100_000, 100_000), (100_000, 100_000))
    assert sharp == pytest.approx((0.1, 0.2), abs=1e-3)
    wide = stats.corrected((-0.1, 0.2), (80, 100), (80, 100))
    assert wide is not None
    assert wide[0] < -0.1 / 0.6
    assert wide[1] > 0.2 / 0.6
