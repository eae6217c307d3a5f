"""How many samples does the sequential gate save, how often is it wrong, and how often does it stay open?

    .venv/bin/python -m benchmarks.gate [--runs 2000]

Benchmarks of 400 items with yes/no outcomes (the baseline fails 30 %), a margin of 10 points, α = 5 % for either claim;
every run is read to its verdict or its end and each peek counts. Two worlds: in `items` the drop is that of the 400
items exactly, which is what a plan's claims are about; in `wider` the items are a random sample of a population with
that drop. Ways: `mixture`, a plain mixture of 25 bets; `no plan`; `last look`, the same that keeps a fifth of α for
one test of all items; a plan knowing nothing (`order`), the outcomes of the
baseline (`baseline`), also those of four earlier checkpoints whose flips correlate 0.5 with the candidate's (`history`)
or not at all (`misleading`: they flip on the wrong items). `fixed`: McNemar exact and Tango at n = 400.
`arrival` reads the baseline's plan in the order of arrival, where refusals, the short answers, come first.
`family`: three roles in which nothing is worse, a margin of 2 points, all samples; a block has α / 3 in each, or α.
"""

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lrm_safety import stats
from lrm_safety.betting import Bets, Floats, Strata, mirrored, whole
from lrm_safety.sequential import KEPT, Known, Plan, draw_plan, known
from lrm_safety.stats import Shown

ITEMS, MARGIN, ALPHA, FAILING, EARLIER, FOLLOW = 400, 0.10, 0.05, 0.3, 4, 0.5**0.5
CELLS = [(0.0, 0.1), (0.0, 0.2), (0.0, 0.3), (0.02, 0.2), (0.05, 0.2), (0.1, 0.1), (0.1, 0.2), (0.1, 0.3), (0.2, 0.3)]
WAYS = ("fixed", "mixture", "no plan", "last look", "order", "baseline", "history", "misleading", "arrival")
FAMILY, ROLES, NARROW = {"fixed": 3, "fixed, α each": 1}, 3, 0.02  # way -> roles that share α; roles; margin
OPEN, PASS, BLOCK = range(3)


@dataclass(frozen=True)
class World:
    """Outcomes in (runs, items): 1 = fails. `earlier` has a further first axis."""

    baseline: Floats
    candidate: Floats
    earlier: Floats
    misleading: Floats


@dataclass(frozen=True)
class Row:
    """One way in one cell: shares of runs, and of the 400 samples that were not needed."""

    world: str
    drop: float
    discordance: float
    way: str
    saved: float
    passed: float
    blocked: float
    still_open: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rows = []
    for name in ("items", "wider"):
        for drop, discordance in CELLS:
            rng = np.random.default_rng(options.seed)
            drawn = draw_world(rng, options.runs, drop, discordance, exact=name == "items")
            for way in WAYS:
                rows.append(Row(name, drop, discordance, way, *measure(way, drawn)))
                print(*(f"{cell:.3f}" if isinstance(cell, float) else cell for cell in vars(rows[-1]).values()))
    rows += [Row("family", 0.0, 0.2, way, *measure_family(way, options.runs, options.seed)) for way in FAMILY]
    with Path(__file__).with_suffix(".csv").open("w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(vars(rows[0]))
        out.writerows(
            [f"{cell:.4g}" if isinstance(cell, float) else cell for cell in vars(row).values()] for row in rows
        )


def draw_world(rng: np.random.Generator, runs: int, drop: float, discordance: float, exact: bool) -> World:
    """Each item has a tendency to flip; a checkpoint follows it with probability FOLLOW, else flips at random."""
    shape = (runs, ITEMS)
    fails = np.arange(ITEMS) < FAILING * ITEMS if exact else rng.random(shape) < FAILING
    baseline = np.broadcast_to(fails, shape).astype(np.float64)
    tendency = rng.random(shape)
    candidate = _flip(rng, baseline, tendency, (drop, discordance), exact)
    earlier = [_flip(rng, baseline, tendency, (0.0, discordance), exact=False) for _ in range(EARLIER)]
    wrong = [_flip(rng, baseline, 1 - tendency, (0.0, discordance), exact=False) for _ in range(EARLIER)]
    return World(baseline, candidate, np.stack(earlier), np.stack(wrong))


def measure(way: str, world: World) -> tuple[float, float, float, float]:
    differences = world.candidate - world.baseline
    if way == "fixed":
        return _fixed(differences)
    if way == "mixture":
        return _summary(*_mixture(differences))
    plans = [plan_of(way, world, run) for run in range(len(differences))]
    order = np.array([[int(unit) for unit in plan.order] for plan in plans])
    if way == "arrival":  # harmful answers are long and finish late, whatever the plan
        order = np.argsort(world.candidate + 1e-6 * order, axis=1)
        plans = [_reordered(plan, row) for plan, row in zip(plans, order, strict=True)]
    table = whole() if way in ("no plan", "last look") else stack([plan.table for plan in plans])
    strata = np.array([plan.strata for plan in plans])
    found = read(table, strata, np.take_along_axis(differences, order, axis=1))
    return _summary(*found, last=differences if way == "last look" else None)


def measure_family(way: str, runs: int, seed: int) -> tuple[float, float, float, float]:
    """Nothing saved; passed in every role, blocked in one, neither: as services/bench/gate.py reads two whole runs."""
    rng = np.random.default_rng(seed)
    worse = rng.binomial(ITEMS, 0.1, (runs, ROLES))
    better = rng.binomial(ITEMS - worse, 0.1 / 0.9)
    pairs = np.stack([worse, better], axis=2).reshape(-1, 2).tolist()
    found = {pair: _judge_role(*pair, FAMILY[way]) for pair in {(up, down) for up, down in pairs}}
    verdicts = np.array([found[up, down] for up, down in pairs]).reshape(runs, ROLES)
    blocked, passed = (verdicts == BLOCK).any(axis=1).mean(), (verdicts == PASS).all(axis=1).mean()
    return 0.0, float(passed), float(blocked), float(1 - passed - blocked)


def _judge_role(worse: int, better: int, sharing: int) -> int:
    ends = (stats.tango(worse, better, ITEMS, 1 - 2 * alpha) for alpha in (ALPHA / sharing, ALPHA))
    (low, _), (_, high) = ends
    return {Shown.NOT_WORSE: PASS, Shown.WORSE: BLOCK, Shown.OPEN: OPEN}[stats.judge_margin(low, high, NARROW)]


def read(table: Strata, strata: NDArray[np.int64], values: Floats) -> tuple[Floats, Floats]:
    """The gate over many runs at once: log evidence at every peek (runs, items), for NOT_WORSE and for WORSE."""
    runs, items = values.shape
    better, worse = Bets(table, np.array([MARGIN]), runs), Bets(mirrored(table), np.array([0.0]), runs)
    found = np.empty((2, runs, items))
    for step in range(items):
        better.read(strata[:, step], values[:, step])
        worse.read(strata[:, step], -values[:, step])
        found[0, :, step], found[1, :, step] = better.evidence()[:, 0], worse.evidence()[:, 0]
    return found[0], found[1]


def plan_of(way: str, world: World, run: int) -> Plan:
    units = [str(item) for item in range(ITEMS)]
    if way in ("no plan", "last look", "order"):
        return draw_plan(units, seed=run)
    earlier = {"history": world.earlier, "misleading": world.misleading}.get(way, np.empty((0, 1, ITEMS)))
    past = earlier[:, run if len(earlier) else 0].T.tolist()
    facts: dict[str, Known] = {
        unit: known(baseline, True, seen)
        for unit, baseline, seen in zip(units, world.baseline[run].tolist(), past, strict=True)
    }
    return draw_plan(units, run, facts)


def stack(tables: list[Strata]) -> Strata:
    """One table a run; those with fewer strata get empty ones."""
    columns = max(table.sizes.shape[1] for table in tables)

    def filled(name: str, empty: float) -> Floats:
        rows = [getattr(table, name)[0].tolist() for table in tables]
        return np.array([row + [empty] * (columns - len(row)) for row in rows])

    names = {"sizes": 0.0, "weights": 1.0, "low": 0.0, "high": 0.0, "means": 0.0, "variances": 0.1}
    return Strata(*(filled(name, empty) for name, empty in names.items()))


def _flip(
    rng: np.random.Generator, baseline: Floats, tendency: Floats, rates: tuple[float, float], exact: bool
) -> Floats:
    drop, discordance = rates
    keys = np.where(rng.random(baseline.shape) < FOLLOW, tendency, rng.random(baseline.shape))
    shares = {1.0: (discordance - drop) / 2 / FAILING, 0.0: (discordance + drop) / 2 / (1 - FAILING)}
    outcome = baseline.copy()
    for value, share in shares.items():
        if exact:
            ranks = np.argsort(np.argsort(np.where(baseline == value, keys, 2.0), axis=1), axis=1)
            flips = ranks < round(share * (baseline[0] == value).sum())
        else:
            flips = (baseline == value) & (keys < share)
        outcome[flips] = 1 - value
    return outcome


def _reordered(plan: Plan, order: NDArray[np.int64]) -> Plan:
    strata = dict(zip(plan.order, plan.strata, strict=True))
    units = tuple(str(index) for index in order)
    return Plan(units, tuple(strata[unit] for unit in units), plan.table)


def _mixture(differences: Floats) -> tuple[Floats, Floats]:
    """The plain mixture: 25 fixed shares of the largest bet, items in random order, a wider population."""
    shares, found = np.linspace(0.02, 0.98, 25), []
    values = np.random.default_rng(0).permuted(differences, axis=1)
    for mean, sign in ((MARGIN, -1.0), (0.0, 1.0)):
        logs = [np.cumsum(np.log1p(share / (1 + sign * mean) * sign * (values - mean)), axis=1) for share in shares]
        found.append(np.logaddexp.reduce(logs, axis=0) - np.log(len(shares)))
    return found[0], found[1]


def _summary(better: Floats, worse: Floats, last: Floats | None = None) -> tuple[float, float, float, float]:
    """Saved, passed, blocked, open; of two claims shown at one peek the gate says NOT_WORSE. `last`: differences."""
    never = better.shape[1] + 1
    needed = -np.log(ALPHA if last is None else (1 - KEPT) * ALPHA)
    over = [each >= needed for each in (better, worse)]
    first = [np.where(each.any(axis=1), each.argmax(axis=1) + 1, never) for each in over]
    stopped = np.minimum(np.minimum(*first), better.shape[1])
    passed = (first[0] < never) & (first[0] <= first[1])
    blocked = first[1] < first[0]
    if last is not None:
        looked = [each if is_open else OPEN for each, is_open in zip(_look(last), ~passed & ~blocked, strict=True)]
        passed, blocked = passed | (np.array(looked) == PASS), blocked | (np.array(looked) == BLOCK)
    undecided = ~passed & ~blocked
    return 1 - float(stopped.mean()) / ITEMS, float(passed.mean()), float(blocked.mean()), float(undecided.mean())


def _look(differences: Floats) -> list[int]:
    """What one test of all shows at KEPT of α, by run."""
    ends = [
        stats.tango(up, down, ITEMS, 1 - 2 * KEPT * ALPHA)
        for up, down in zip((differences > 0).sum(1).tolist(), (differences < 0).sum(1).tolist(), strict=True)
    ]
    return [PASS if high < MARGIN else BLOCK if low > 0 else OPEN for low, high in ends]


def _fixed(differences: Floats) -> tuple[float, float, float, float]:
    """All samples: PASS by Tango's upper end, BLOCK by McNemar's exact test, both one-sided at α."""
    counts = [tuple(pair) for pair in np.stack([(differences > 0).sum(1), (differences < 0).sum(1)], axis=1).tolist()]
    found = {pair: _judge(*pair) for pair in set(counts)}
    verdicts = np.array([found[pair] for pair in counts])
    passed, blocked, undecided = (float((verdicts == each).mean()) for each in (PASS, BLOCK, OPEN))
    return 0.0, passed, blocked, undecided


def _judge(worse: int, better: int) -> int:
    if stats.tango(worse, better, ITEMS, 1 - 2 * ALPHA)[1] < MARGIN:
        return PASS
    return BLOCK if worse > better and stats.mcnemar(worse, better) <= 2 * ALPHA else OPEN


if __name__ == "__main__":
    main()
