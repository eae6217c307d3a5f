"""The sequential gate: verdicts, order of reading, missing verdicts."""

import numpy as np
import pytest

from lrm_safety.sequential import PairedGate, draw_plan
from lrm_safety.stats import Shown


@pytest.mark.parametrize(
    ("worse", "better", "shown"), [(0.0, 0.0, Shown.NOT_WORSE), (0.1, 0.1, Shown.NOT_WORSE), (0.4, 0.05, Shown.WORSE)]
)
def test_clear_cases_are_shown_early(worse: float, better: float, shown: Shown) -> None:
    gate = PairedGate(margin=0.1)
    for difference in np.random.default_rng(1).choice(
        [1.0, -1.0, 0.0], p=[worse, better, 1 - worse - better], size=400
    ):
        if gate.update(float(difference)):
            break
    assert gate.shown is shown
    assert gate.n < 300
    low, high = gate.interval()
    assert low <= worse - better <= high


def test_arrival_order_does_not_matter() -> None:
    units = [f"unit {index}" for index in range(200)]
    results = {unit: float(index % 3 == 0) for index, unit in enumerate(units)}
    plan = draw_plan(units, seed=3)
    assert plan == draw_plan(units, seed=3) != draw_plan(units, seed=4)
    gates = [PairedGate(0.1, plan=plan) for _ in range(2)]
    for gate, arrivals in zip(gates, (units, sorted(units, key=results.__getitem__)), strict=True):
        for unit in arrivals:
            gate.arrive(unit, results[unit])
    assert gates[0].shown is gates[1].shown is Shown.WORSE
    assert gates[0].n == gates[1].n < 100
    assert gates[0].interval() == gates[1].interval()


def test_missing_verdicts_show_nothing() -> None:
    gate = PairedGate(0.1)
    for _ in range(200):
        assert gate.update(None) is None
    assert gate.interval() == (-1.0, 1.0)
