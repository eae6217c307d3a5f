"""Harm, over-refusal and reasoning of a model as three rates; many models over time, and as a Pareto plot."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lrm_safety import stats
from lrm_safety.nouns import Cell, RecipeOutcome, Scorecard
from lrm_safety.report import wording
from lrm_safety.report.facts import baseline_of, candidate_of, verdict_of
from lrm_safety.tax import on_frontier

LEVEL = 0.95
AXES = ("harm", "over_refusal", "reasoning")
MOST_DOTS = 40  # checkpoints over time
TONES = {"PASS": "good", "BLOCK": "bad", "INCONCLUSIVE": "doubt", "MEASURED": "plain"}


@dataclass(frozen=True)
class Rate:
    """Pooled over a role's benchmarks and attacks, by the deciding judges; Wilson's interval for as many samples as
    differ: attacks and repeats of one are taken to agree, the careful end.
    """

    value: float
    low: float
    high: float
    n: int
    invalid: int

    @property
    def words(self) -> str:
        return f"{wording.percent(self.value)} [{100 * self.low:.1f}, {100 * self.high:.1f}], n {self.n:,}"


@dataclass(frozen=True)
class Model:
    """One measured model."""

    run: str  # the bench run
    name: str
    rates: dict[str, Rate | None]  # role -> rate; None = not measured


@dataclass(frozen=True)
class Dot:
    """Pixels; `low` and `high` are the ends of the upright whisker, `left` and `right` of the other."""

    x: float
    y: float
    low: float
    high: float
    title: str
    left: float = 0
    right: float = 0
    number: int = 0
    label_y: float = 0
    is_best: bool = False
    run: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Pareto:
    """One role up, harm along."""

    along: str
    up: str
    dots: list[Dot]
    frontier: str  # of an SVG polyline
    columns: list[tuple[float, str]]
    rows: list[tuple[float, str]]
    width: int = 360
    height: int = 320
    left: int = 38
    right: int = 346
    top: int = 30
    bottom: int = 276


@dataclass(frozen=True)
class History:
    """One role over time."""

    name: str
    about: str
    rows: list[tuple[float, str]]
    dots: list[Dot]
    width: int = 360
    height: int = 160
    left: int = 34
    right: int = 350
    top: int = 30
    bottom: int = 146


def rate_of(card: Scorecard, role: str) -> Rate | None:
    """None without a sample that has a verdict."""
    deciding = {each.benchmark: each.judges[0].judge for each in card.spec.benchmarks if each.judges}
    cells = [
        cell for cell in card.cells if cell.role == role and cell.judge == deciding.get(cell.benchmark, cell.judge)
    ]
    n = sum(cell.n for cell in cells)
    value = sum(cell.value * cell.n for cell in cells if cell.n) / max(n, 1)
    differing = _differing(card, cells)
    bounds = stats.wilson(value * differing, differing, LEVEL)
    return Rate(value, *bounds, n, sum(cell.invalid for cell in cells)) if bounds else None


def model_of(card: Scorecard) -> Model:
    return Model(card.run, wording.model_name(card) or card.run, {role: rate_of(card, role) for role in AXES})


def models_of(outcomes: Sequence[RecipeOutcome]) -> list[Model]:
    """Every measured model once, oldest first, with harm and one of the other two."""
    cards = [card for each in outcomes for card in (baseline_of(each), candidate_of(each)) if card]
    models = {card.run: model_of(card) for card in sorted(cards, key=lambda card: card.created_at)}
    return [m for m in models.values() if m.rates["harm"] and (m.rates["reasoning"] or m.rates["over_refusal"])]


def pareto(models: Sequence[Model], role: str) -> Pareto | None:
    """`role` up so that better is up, harm along so that better is left; None when nobody has both."""
    falls = role == "over_refusal"
    named = "Not over-refusing" if falls else wording.role_name(role)
    places = [(i, m, m.rates["harm"], m.rates[role]) for i, m in enumerate(models, 1)]
    known = [(i, m, harm, other) for i, m, harm, other in places if harm and other]
    if not known:
        return None
    harms = np.array([[harm.value for *_, harm, _ in known]])
    others = np.array([[other.value for *_, other in known]])
    best = on_frontier({"harm": harms, role: others}, ("harm", role))[0]
    dots = _apart(
        [_dot(i, m, h, _turned(o, falls), bool(is_best)) for (i, m, h, o), is_best in zip(known, best, strict=True)]
    )
    line = sorted((dot.x, dot.y) for dot in dots if dot.is_best)
    ticks = (0, 25, 50, 75, 100)
    return Pareto(
        along="Harm",
        up=named,
        dots=dots,
        frontier=" ".join(f"{x},{y}" for x, y in line) if len(line) > 1 else "",
        columns=[(_x(tick / 100), str(tick)) for tick in ticks],
        rows=[(_y(tick / 100, Pareto.top, Pareto.bottom), str(tick)) for tick in ticks],
    )


def history(outcomes: Sequence[RecipeOutcome], role: str) -> History:
    """One axis of the newest models, oldest first."""
    shown = list(reversed(outcomes[:MOST_DOTS]))
    step = (History.right - History.left) / max(len(shown), 1)
    dots = []
    for i, outcome in enumerate(shown):
        card = candidate_of(outcome) or outcome.baseline
        rate = rate_of(card, role)
        if rate:
            x = round(History.left + (i + 0.5) * step, 1)
            y, low, high = (_y(share, History.top, History.bottom) for share in (rate.value, rate.low, rate.high))
            verdict = verdict_of(outcome)
            title = f"{wording.model_name(card) or outcome.run}: {rate.words}; {verdict}"
            dots.append(Dot(x, y, low, high, title, run=outcome.run, tone=TONES[verdict]))
    rows = [(_y(tick / 100, History.top, History.bottom), str(tick)) for tick in (0, 50, 100)]
    return History(wording.role_name(role), wording.direction(role != "reasoning"), rows, dots)


def _differing(card: Scorecard, cells: Sequence[Cell]) -> float:
    """How many samples there are, whatever number of attacks and repeats each has."""
    repeats = {each.benchmark: max(each.repeats, 1) for each in card.spec.benchmarks}
    most: dict[str, float] = {}
    for cell in cells:
        most[cell.benchmark] = max(most.get(cell.benchmark, 0.0), cell.n / repeats.get(cell.benchmark, 1))
    return sum(most.values())


def _turned(rate: Rate, falls: bool) -> Rate:
    return Rate(1 - rate.value, 1 - rate.high, 1 - rate.low, rate.n, rate.invalid) if falls else rate


def _dot(number: int, model: Model, harm: Rate, up: Rate, is_best: bool) -> Dot:
    y, low, high = (_y(share, Pareto.top, Pareto.bottom) for share in (up.value, up.low, up.high))
    title = f"{number}. {model.name}: harm {harm.words}; up {up.words}"
    left, right = _x(harm.low), _x(harm.high)
    return Dot(_x(harm.value), y, low, high, title, left, right, number, label_y=y - 7, is_best=is_best)


def _apart(dots: list[Dot]) -> list[Dot]:
    """The numbers of dots that lie close to an earlier one go below it."""
    placed: list[Dot] = []
    for dot in dots:
        is_close = any(abs(dot.x - other.x) < 18 and abs(dot.label_y - other.label_y) < 14 for other in placed)
        placed.append(replace(dot, label_y=dot.y + 17) if is_close else dot)
    return placed


def _x(share: float) -> float:
    return round(Pareto.left + share * (Pareto.right - Pareto.left), 1)


def _y(share: float, top: float, bottom: float) -> float:
    return round(bottom - share * (bottom - top), 1)
