"""Quantiles and tails against scipy's, over the whole range in which intervals ask for them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from scipy.stats import t as student

from lrm_safety import distributions

levels = st.floats(1e-6, 1 - 1e-6)


@given(levels, st.integers(1, 400))
def test_student_quantiles_are_scipys(p: float, degrees: int) -> None:
    assert distributions.student_quantile(p, degrees) == pytest.approx(student.ppf(p, degrees), rel=1e-8, abs=1e-9)


def test_student_quantiles_of_many_degrees() -> None:
    assert distributions.student_quantile(0.025, 20_001) == pytest.approx(student.ppf(0.025, 20_001), rel=1e-9)


@given(st.integers(0, 300), st.integers(0, 300))
def test_sign_test_is_scipys(one_way: int, other_way: int) -> None:
    n = one_way + other_way
    expected = binomtest(one_way, n).pvalue if n else 1.0
    assert distributions.sign_test(one_way, other_way) == pytest.approx(expected, rel=1e-9)


def test_root_of_falling_and_rising_functions() -> None:
    assert distributions.root(lambda x: x * x - 2, 0.0, 2.0) == pytest.approx(2**0.5, abs=1e-15)
    assert distributions.root(lambda x: 2 - x * x, 0.0, 2.0) == pytest.approx(2**0.5, abs=1e-15)
