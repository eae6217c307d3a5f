"""The pictures, laid out here and drawn by pages/*.svg: the axes (dots with interval whiskers), the training curves."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lrm_safety.nouns import Cell, TrainingMetrics
from lrm_safety.report import wording
from lrm_safety.report.facts import ReportData, Row, baseline_of, candidate_of, roles_in, rows_of, sides_of
from lrm_safety.report.templates import read_page, render

MOST_CURVE_POINTS = 300
TICKS = (0, 25, 50, 75, 100)  # per cent
PANEL_HEAD, PANEL_FOOT, TOP = 44, 32, 84  # pixels


@dataclass(frozen=True)
class Sheet:
    """Where things go, in pixels: beside the dots on a wide sheet, above them on a narrow one."""

    width: int
    left: int  # of the plotting area
    right: int
    row: int  # height of one row
    text_y: int  # baseline of a row's first line of text, from the row's top
    dots_y: int  # middle of a row's two whiskers, from the row's top
    letters: int  # that fit a label

    def x(self, share: float) -> float:
        return round(self.left + max(0.0, min(1.0, share)) * (self.right - self.left), 1)


WIDE = Sheet(width=860, left=250, right=660, row=46, text_y=20, dots_y=23, letters=26)
NARROW = Sheet(width=380, left=30, right=342, row=78, text_y=18, dots_y=55, letters=24)


@dataclass(frozen=True)
class Dot:
    x: float
    y: float
    low: float | None  # x of the whisker's ends; None = no interval
    high: float | None
    title: str


@dataclass(frozen=True)
class Mark:
    """One row: what it is, its dots, its numbers in words."""

    y: float
    label: str
    detail: str
    values: str
    change: str
    tone: str  # better | worse | unclear
    baseline: Dot | None
    candidate: Dot | None


@dataclass(frozen=True)
class Panel:
    """One role."""

    y: float
    name: str
    about: str
    marks: list[Mark]
    bottom: float  # of its rows


@dataclass(frozen=True)
class Curve:
    """One training metric over the steps, in a box of `width` x `height` pixels, its line within left..right."""

    name: str
    points: str  # of an SVG polyline
    last_x: float
    last_y: float
    last: str
    low: str
    high: str
    first_step: int
    last_step: int
    width: int = 380
    height: int = 170
    left: int = 52
    right: int = 316
    top: int = 40
    bottom: int = 136


def axes_svg(data: ReportData) -> str:
    """The plot as a file of its own: readable on a light and a dark page, no fonts or styles from elsewhere."""
    return render(
        "axes.svg", **_scene(data, WIDE), inset=0, top=0, style=read_page("colours.css") + read_page("plot.css")
    )


def axes_inline(data: ReportData, sheet: Sheet) -> str:
    """The same for inside a page that has the styles."""
    return render("axes.svg", **_scene(data, sheet), inset=_edge(sheet), top=36, style="")


def curves(metrics: Sequence[TrainingMetrics]) -> list[Curve]:
    """Loss, token accuracy, learning rate, speed and memory; a metric without a finite value has no curve."""
    drawn = (
        _curve("Loss", [(m.step, m.loss) for m in metrics], "{:.3f}"),
        _curve("Token accuracy", [(m.step, m.token_accuracy) for m in metrics], "{:.1%}"),
        _curve("Learning rate, × 10⁻⁶", [(m.step, 1e6 * m.learning_rate) for m in metrics], "{:.2f}"),
        _curve("Tokens per second", [(m.step, m.tokens_per_s) for m in metrics], "{:,.0f}"),
        _curve("Share of the machine's peak (MFU)", [(m.step, m.mfu) for m in metrics], "{:.1%}"),
        _curve("Memory, GiB", [(m.step, m.memory_gib) for m in metrics], "{:.2f}"),
    )
    return [curve for curve in drawn if curve]


def _scene(data: ReportData, sheet: Sheet) -> dict[str, object]:
    panels: list[Panel] = []
    y = float(TOP)
    for role, rows in roles_in(rows_of(data.outcome)).items():
        panel = _panel(role, rows, sheet, y)
        panels.append(panel)
        y = panel.bottom + PANEL_FOOT
    baseline, candidate = baseline_of(data.outcome), candidate_of(data.outcome)
    return {
        "sheet": sheet,
        "panels": panels,
        "height": y + 8 if panels else TOP + 40,
        "edge": _edge(sheet),
        "ticks": [(sheet.x(tick / 100), tick) for tick in TICKS],
        "title": _shorten(data.outcome.recipe.name or data.outcome.run or "report", 60 if sheet is WIDE else 34),
        "names": sides_of(data.outcome),
        "baseline": _legend(wording.model_name(baseline), sheet) if baseline else "",
        "candidate": _legend(wording.model_name(candidate), sheet) if candidate else "",
        "levels": _levels(rows_of(data.outcome)),
    }


def _panel(role: str, rows: list[Row], sheet: Sheet, y: float) -> Panel:
    first = rows[0]
    top = y + PANEL_HEAD
    marks = [_mark(row, rows, sheet, top + i * sheet.row) for i, row in enumerate(rows)]
    about = f"{wording.metric_name(first.metric)}, {wording.direction(first.lower_is_better)}"
    return Panel(y, wording.role_name(role), about, marks, top + len(rows) * sheet.row)


def _mark(row: Row, rows: list[Row], sheet: Sheet, y: float) -> Mark:
    cells = [cell for cell in (row.baseline, row.candidate) if cell]
    counts = " · ".join(dict.fromkeys(f"{cell.n:,}" for cell in cells))
    is_shared = sum((m.benchmark, m.attack) == (row.benchmark, row.attack) for m in rows) > 1
    how = (row.attack if row.attack != "none" else "no attack") + (f", {row.judge}" if is_shared else "")
    change = row.change
    middle = y + sheet.dots_y
    gap = 6 if len(cells) == 2 else 0
    return Mark(
        y=y,
        label=_shorten(row.benchmark, sheet.letters),
        detail=f"{_shorten(how, sheet.letters + 2 - len(counts))}, n {counts}",
        values=wording.both(wording.value(row.baseline), wording.value(row.candidate), len(cells) == 2),
        change=f"{wording.points(change.value)} points" if change else "",
        tone=change.word if change else "unclear",
        baseline=_dot(row.baseline, sheet, middle - gap),
        candidate=_dot(row.candidate, sheet, middle + gap),
    )


def _dot(cell: Cell | None, sheet: Sheet, y: float) -> Dot | None:
    if cell is None or not wording.has_value(cell):
        return None
    has_interval = cell.HasField("interval")
    low = sheet.x(cell.interval.low) if has_interval else None
    high = sheet.x(cell.interval.high) if has_interval else None
    title = f"{wording.value(cell)} {wording.interval(cell)} n {wording.count(cell, 'n')}, {cell.invalid:,} invalid"
    return Dot(sheet.x(cell.value), y, low, high, title)


def _edge(sheet: Sheet) -> int:
    return 24 if sheet is WIDE else 16


def _levels(rows: list[Row]) -> str:
    levels = {cell.interval.level for row in rows for cell in (row.baseline, row.candidate) if cell} - {0.0}
    return " and ".join(f"{100 * level:g} %" for level in sorted(levels)) or "95 %"


def _curve(name: str, values: list[tuple[int, float]], form: str) -> Curve | None:
    values = [(step, number) for step, number in values if math.isfinite(number)]
    if not any(number for _, number in values):
        return None
    stride = -(-len(values) // MOST_CURVE_POINTS)
    values = sorted({*values[::stride], values[-1]})
    steps, numbers = [step for step, _ in values], [number for _, number in values]
    low, high = min(numbers), max(numbers)

    def place(step: int, number: float) -> tuple[float, float]:
        along = (step - steps[0]) / ((steps[-1] - steps[0]) or 1)
        up = (number - low) / ((high - low) or 1)
        x = Curve.left + along * (Curve.right - Curve.left)
        return round(x, 1), round(Curve.bottom - up * (Curve.bottom - Curve.top), 1)

    line = " ".join("{},{}".format(*place(step, number)) for step, number in values)
    last_x, last_y = place(*values[-1])
    ends = (form.format(numbers[-1]), form.format(low), form.format(high))
    return Curve(name, line, last_x, last_y, *ends, steps[0], steps[-1])


def _legend(name: str, sheet: Sheet) -> str:
    return _shorten(name, 30 if sheet is WIDE else 34)


def _shorten(text: str, letters: int) -> str:
    text = wording.plain(text)
    return text if len(text) <= letters else f"{text[: letters - 1]}…"
