"""The picture of a safety tax: harm against reasoning, a numbered dot a run, its whiskers, the frontier's steps."""

from dataclasses import dataclass

from lrm_safety.report import wording
from lrm_safety.report.templates import read_page, render
from lrm_safety.tax import Paid, Tax
from lrm_safety.tax_report import axis_words, chance_words, price_words

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 860, 80, 820, 96, 456  # pixels
ROW, LEGEND = 40, 516
TICKS = (0, 25, 50, 75, 100)  # per cent
_NAME_LETTERS = 60


@dataclass(frozen=True)
class Dot:
    """One run: where its dot is, where its whiskers end, and its line in the legend."""

    number: int
    x: float
    y: float
    left: float
    right: float
    top: float
    bottom: float
    tone: str  # base | trained
    is_on_frontier: bool
    title: str
    name: str
    detail: str
    legend_y: int


def tax_svg(tax: Tax) -> str:
    """A file of its own, readable on a light and a dark page. Up and to the left is better."""
    dots = [_dot(number, paid) for number, paid in enumerate(tax.runs)]
    return render(
        "tax.svg",
        dots=dots,
        steps=_steps([dot for dot in dots if dot.is_on_frontier]),
        x_ticks=[(_x(tick / 100), tick) for tick in TICKS],
        y_ticks=[(_y(tick / 100), tick) for tick in TICKS],
        width=WIDTH,
        left=LEFT,
        right=RIGHT,
        top=TOP,
        bottom=BOTTOM,
        height=LEGEND + ROW * len(dots) + 4,
        level=f"{100 * tax.level:g} %",
        style=read_page("colours.css") + read_page("plot.css"),
    )


def _dot(number: int, paid: Paid) -> Dot:
    harm, reasoning = paid.axes["harm"], paid.axes["reasoning"]
    name = wording.plain(paid.name)
    words = (f"harm {axis_words(harm)}", f"reasoning {axis_words(reasoning)}")
    third = paid.axes.get("over_refusal")
    detail = [f"on the frontier {chance_words(paid.on_frontier)}"]
    detail += [f"over-refusal {axis_words(third)}"] if third else []
    detail += [f"price {price_words(paid.price)}"] if number else ["the baseline"]
    return Dot(
        number=number,
        x=_x(harm.value.value),
        y=_y(reasoning.value.value),
        left=_x(harm.value.low),
        right=_x(harm.value.high),
        top=_y(reasoning.value.high),
        bottom=_y(reasoning.value.low),
        tone="trained" if number else "base",
        is_on_frontier=paid.is_on_frontier,
        title=f"{name}: {'; '.join(words)}",
        name=name if len(name) <= _NAME_LETTERS else f"{name[: _NAME_LETTERS - 1]}…",
        detail=" · ".join(detail),
        legend_y=LEGEND + ROW * number,
    )


def _steps(dots: list[Dot]) -> str:
    """The frontier as a staircase: what some run reaches without giving up anything."""
    points: list[str] = []
    height = float(BOTTOM)
    for dot in sorted(dots, key=lambda dot: (dot.x, dot.y)):
        points += [f"{dot.x},{height}", f"{dot.x},{dot.y}"]
        height = dot.y
    return " ".join([*points, f"{RIGHT},{height}"]) if points else ""


def _x(share: float) -> float:
    return round(LEFT + max(0.0, min(1.0, share)) * (RIGHT - LEFT), 1)


def _y(share: float) -> float:
    return round(BOTTOM - max(0.0, min(1.0, share)) * (BOTTOM - TOP), 1)
