"""The sequential gate: fair bets, verdicts that hold at every peek, the order of reading, missing verdicts."""

import numpy as np
import pytest

from benchmarks import gate as bench
from lrm_safety.betting import Bets, Floats, Strata, mirrored, whole
from lrm_safety.errors import InvalidInput
from lrm_safety.sequential import Known, PairedGate, Plan, draw_plan, known
from lrm_safety.stats import Shown, tango

SIZES, WEIGHTS = np.array([[6.0, 3.0, 3.0]]), np.array([[0.5, 1.0, 2.0]])
VALUES = [[0.0, 1.0, 0.0, 0.0, 0.5, 0.0], [-1.0, 0.0, 0.0], [1.0, -1.0, 0.3]]
TABLE = Strata(
    SIZES, WEIGHTS, np.array([[0.0, -1.0, -1.0]]), np.array([[1.0, 0.0, 1.0]]),
    np.array([[0.1, -0.2, 0.0]]), np.array([[0.1, 0.2, 0.3]]),
)  # fmt: skip


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_bets_are_fair_whatever_unit_is_drawn(sign: float) -> None:
    """At the hypothesis' edge, the drawn unit averaged over, every bet keeps its stake: a martingale, exactly."""
    table = TABLE if sign > 0 else mirrored(TABLE)
    null = sign * sum(map(sum, VALUES)) / SIZES.sum()
    left = [list(values) for values in VALUES]
    path = [(2, 0), (0, 1), (0, 0), (1, 0), (2, 1), (0, 0), (2, 0)]

    def after(drawn: list[tuple[int, float]]) -> Floats:
        bets = Bets(table, np.array([null]))
        for stratum, value in drawn:
            bets.read(np.array([stratum]), np.array([sign * value]))
        stakes: Floats = np.exp(bets.wealth[0, 0])
        return stakes

    drawn: list[tuple[int, float]] = []
    for stratum, place in path:
        mass = sum(WEIGHTS[0, s] * len(values) for s, values in enumerate(left))
        mean = sum(
            WEIGHTS[0, s] / mass * after([*drawn, (s, value)]) for s, values in enumerate(left) for value in values
        )
        assert mean == pytest.approx(after(drawn), rel=1e-9)
        drawn.append((stratum, left[stratum].pop(place)))


@pytest.mark.parametrize(
    ("size", "side", "after_10", "after_40", "after_120"),
    [
        (400, "better", 0.491238341881, 0.300988247937, 0.0524359343242),
        (400, "worse", 1.27765537632, 1.85335659063, 71.9908409657),
        (None, "better", 0.495201573271, 0.319534192582, 0.0902280146291),
        (None, "worse", 1.26861166201, 1.71739560622, 17.9216286133),
    ],
)
def test_evidence_is_what_confseq_finds(
    size: int | None, side: str, after_10: float, after_40: float, after_120: float
) -> None:
    """confseq 0.0.11's diversified_betting_mart(y, m, λ, N=size, theta=0 or 1, trunc_scale=0.9), y = (d + 1) / 2, with
    λ = 2 γ / (σ² + γ²) derived anew. Values are written down: its compiled part needs Boost, and NumPy 1."""
    steps = np.arange(120) ** 2 * 7 + 3 * np.arange(120)
    differences = np.select([steps % 11 <= 1, steps % 11 == 3], [1.0, -1.0], 0.0)
    units = [str(step) for step in range(size or 0)]
    plan = Plan(tuple(units), (0,) * len(units), whole(size=size)) if size else None
    gate = PairedGate(margin=0.1, plan=plan)
    found = {}
    for n, difference in enumerate(differences, start=1):
        gate.update(float(difference))
        found[n] = gate.e_values()[side == "better"]
    assert [found[10], found[40], found[120]] == pytest.approx([after_10, after_40, after_120], rel=1e-6)


@pytest.mark.parametrize(("drop", "wrong"), [(0, Shown.WORSE), (20, Shown.NOT_WORSE)])
def test_false_verdicts_are_rare_over_all_peeks(drop: int, wrong: Shown) -> None:
    """200 items, margin 10 points, true drop 0 or exactly the margin, half the items with telling history."""
    rng, runs = np.random.default_rng(4), 80
    baseline = np.arange(200) % 4 == 0
    candidate = baseline.copy()
    candidate[np.flatnonzero(~baseline)[: 20 + drop]] = True
    candidate[np.flatnonzero(baseline)[:20]] = False
    units = [str(item) for item in range(200)]
    differences = dict(zip(units, (candidate * 1.0 - baseline).tolist(), strict=True))
    mistakes, stops = 0, []
    for seed in range(runs):
        history = {
            unit: known(float(baseline[item]), True, rng.choice([0.0, 1.0], size=item % 3).tolist())
            for item, unit in enumerate(units)
        }
        gate = PairedGate(0.1, 0.1, draw_plan(units, seed, history))
        assert gate.n == 0
        while gate.shown is None:
            gate.update(differences[next_unit(gate)])
        mistakes += gate.shown is wrong
        stops.append(gate.n)
    assert mistakes / runs <= 0.1 + 2.6 * (0.1 * 0.9 / runs) ** 0.5
    assert np.mean(stops) < 120


def next_unit(gate: PairedGate) -> str:
    """The unit that the gate reads next."""
    assert gate.plan is not None
    return gate.plan.order[gate.n]


@pytest.mark.parametrize(
    ("worse", "better", "shown"), [(0.0, 0.0, Shown.NOT_WORSE), (0.1, 0.1, Shown.NOT_WORSE), (0.4, 0.05, Shown.WORSE)]
)
def test_clear_cases_are_shown_early_without_a_plan(worse: float, better: float, shown: Shown) -> None:
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


def open_end(last: int) -> PairedGate:
    """260 units, 5 points worse, 15 % of them differing: too little for bets at a margin of 10 points."""
    gate = PairedGate(margin=0.1, alpha=0.1, last=last)
    for item in range(260):
        assert gate.shown is None
        gate.update({0: 1.0, 7: 1.0, 3: -1.0}.get(item % 20, 0.0))
    return gate


def test_a_last_look_shows_what_bets_leave_open() -> None:
    assert open_end(0).shown is None
    gate = open_end(260)
    assert gate.shown is Shown.WORSE
    assert gate.interval() == pytest.approx(tango(26, 13, 260, 1 - 2 * 0.02))


def test_a_last_look_is_paid_for() -> None:
    """The bets have the rest of α; nobody looks before all is read, and a missing verdict is the worst for either."""
    gates = [PairedGate(0.1, 0.05, last=last) for last in (0, 400)]
    for gate in gates:
        while gate.update(0.0) is None:
            pass
    assert gates[0].n < gates[1].n < 400
    missing = PairedGate(0.1, 0.1, last=30)
    for item in range(30):
        assert missing.update(None if item % 3 else 0.0) is None
    low, high = missing.interval()
    assert low < 0
    assert high > 0.1


def test_false_verdicts_stay_rare_with_a_last_look() -> None:
    """A population 10 points worse, which is the margin, 30 % differing; α 10 %, of which the last look has 2."""
    rng, runs = np.random.default_rng(7), 150
    passed = 0
    for _ in range(runs):
        gate = PairedGate(0.1, 0.1, last=100)
        differences = rng.choice([1.0, -1.0, 0.0], p=[0.2, 0.1, 0.7], size=100)
        for difference in differences:
            if gate.update(float(difference)):
                break
        passed += gate.shown is Shown.NOT_WORSE
    assert passed / runs <= 0.1 + 2.6 * (0.1 * 0.9 / runs) ** 0.5


def test_block_needs_its_own_level() -> None:
    gates = [PairedGate(0.1, 0.05, alpha_block=level) for level in (0.05, 0.01)]
    for gate in gates:
        while gate.update(float(gate.n % 3 == 0)) is None:
            pass
    assert gates[0].shown is gates[1].shown is Shown.WORSE
    assert gates[0].n < gates[1].n
    assert gates[1].e_values()[0] >= 100


def test_with_all_read_nothing_is_open() -> None:
    units = [str(item) for item in range(60)]
    plan = draw_plan(units, 1, {unit: known(float(index % 3 == 0), True) for index, unit in enumerate(units)})
    gate = PairedGate(0.1, 0.05, plan)
    for unit in plan.order:
        gate.update({"1": 1.0, "2": 1.0, "4": 1.0, "0": -1.0, "3": -1.0, "6": -1.0}.get(unit, 0.0))
    assert gate.shown is Shown.NOT_WORSE
    low, high = gate.interval()
    assert low <= 0.0 <= high
    assert high - low <= 0.011
    with pytest.raises(InvalidInput, match="60 units and all are read"):
        gate.update(0.0)


def test_clusters_and_graded_scores_are_read_too() -> None:
    rng = np.random.default_rng(2)
    units = [str(cluster) for cluster in range(150)]
    before = rng.random(150)
    after = np.clip(before + rng.normal(0.25, 0.2, 150), 0, 1)
    plan = draw_plan(units, 5, {unit: known(b, True) for unit, b in zip(units, before.tolist(), strict=True)})
    assert len(set(plan.strata)) > 3
    gate = PairedGate(0.1, 0.05, plan)
    for unit in plan.order:
        if gate.update(float(after[int(unit)] - before[int(unit)])):
            break
    assert gate.shown is Shown.WORSE
    assert gate.n < 60
    low, high = gate.interval()
    assert low <= (after - before).mean() <= high


def test_arrival_order_does_not_matter_and_would_mislead() -> None:
    """Planted: refusals are short and arrive first. Read as they arrive, a candidate 20 points worse would pass."""
    units = [f"unit {index}" for index in range(200)]
    results = {unit: float(index % 5 == 0) for index, unit in enumerate(units)}
    plan = draw_plan(units, seed=3)
    assert plan.order == draw_plan(units, seed=3).order != draw_plan(units, seed=4).order
    refusals_first = sorted(units, key=results.__getitem__)
    gates = [PairedGate(0.1, plan=plan) for _ in range(2)]
    for gate, arrivals in zip(gates, (units, refusals_first), strict=True):
        for unit in arrivals:
            gate.arrive(unit, results[unit])
    assert gates[0].shown is gates[1].shown is Shown.WORSE
    assert gates[0].n == gates[1].n < 100
    assert gates[0].interval() == gates[1].interval()
    misled = PairedGate(0.1, plan=plan)
    for unit in refusals_first:
        misled.update(results[unit])
    assert misled.shown is Shown.NOT_WORSE


def test_missing_verdicts_show_nothing() -> None:
    gate = PairedGate(0.1)
    for _ in range(200):
        assert gate.update(None) is None
    assert gate.interval() == (-1.0, 1.0)


def test_what_cannot_be_is_refused() -> None:
    plan = draw_plan(["a", "b"], 0, {"a": known(1.0, True), "b": known(1.0, True)})
    with pytest.raises(InvalidInput, match="expected the same units"):
        PairedGate(0.1, plan=plan).update(1.0)
    with pytest.raises(InvalidInput, match="named twice"):
        draw_plan(["a", "a"], 0)


def test_what_is_known_turns_with_the_direction() -> None:
    assert known(1.0, lower_is_better=True, earlier=[0.0, 1.0]) == Known(-1.0, 0.0, (-1.0, 0.0))
    assert known(1.0, lower_is_better=False, earlier=[0.0]) == Known(0.0, 1.0, (1.0,))
    assert known(0.25, lower_is_better=False) == Known(-0.75, 0.25)


def test_restless_units_come_first_and_weights_mend_the_mean() -> None:
    units = [str(item) for item in range(300)]
    history = {unit: known(0.0, True, (0.0, float(index < 60), float(index < 60))) for index, unit in enumerate(units)}
    firsts, plain, mended = [], [], []
    for seed in range(200):
        plan = draw_plan(units, seed, history)
        outcomes = np.array([float(int(unit) < 60) for unit in plan.order[:40]])
        firsts.append(outcomes.sum())
        plain.append(outcomes.mean())
        mended.append(float(plan.weights(40) @ outcomes))
    assert np.mean(firsts) > 12  # a uniform order has 8
    assert np.mean(plain) > 0.28
    assert np.mean(mended) == pytest.approx(0.2, abs=1e-9)


def test_the_simulation_reads_as_the_gate_does() -> None:
    """benchmarks/gate.py runs many gates at once: its evidence at every peek is that of one gate each."""
    world = bench.draw_world(np.random.default_rng(3), runs=4, drop=0.05, discordance=0.2, exact=True)
    assert (world.candidate - world.baseline).mean(axis=1) == pytest.approx(0.05)
    assert np.abs(world.candidate - world.baseline).mean(axis=1) == pytest.approx(0.2)
    plans = [bench.plan_of("history", world, run) for run in range(4)]
    order = np.array([[int(unit) for unit in plan.order] for plan in plans])
    values = np.take_along_axis(world.candidate - world.baseline, order, axis=1)[:, :40]
    better, worse = bench.read(
        bench.stack([p.table for p in plans]), np.array([p.strata for p in plans])[:, :40], values
    )
    for run, plan in enumerate(plans):
        gate = PairedGate(bench.MARGIN, bench.ALPHA, plan)
        for step in range(40):
            gate.update(float(values[run, step]))
            together = float(np.exp(worse[run, step])), float(np.exp(better[run, step]))
            assert gate.e_values() == pytest.approx(together, rel=1e-9)
