"""The report in a terminal: the verdict, and a table that fits 80 columns and says the same without colour."""

from rich.box import HEAVY
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from lrm_safety.nouns import Cell, RecipeOutcome
from lrm_safety.report import wording
from lrm_safety.report.facts import (
    ReportData,
    Row,
    baseline_of,
    candidate_of,
    deciding_judges,
    meaning_of,
    reasons_of,
    roles_in,
    rows_of,
    sides_of,
    verdict_of,
)

COLOURS = {"PASS": "green", "BLOCK": "red", "INCONCLUSIVE": "yellow", "MEASURED": "cyan"}
WIDEST = 110  # columns; a wider table is harder to follow
TONES = {"worse": "red", "better": "green", "unclear": ""}


def terminal(data: ReportData, console: Console) -> None:
    """Prints the verdict with its reasons, and one line pair a row: values over their intervals."""
    rows = rows_of(data.outcome)
    width = min(console.width, WIDEST)
    console.print(_banner(data.outcome), width=width)
    sides = sides_of(data.outcome)
    console.print(_head(sides) if rows else Text("Nothing was measured."), width=width)
    for role, members in roles_in(rows).items():
        console.print(_role(role, members, sides), width=width)
    if any(row.comparison for row in rows):
        console.print(_flips(rows, deciding_judges(data.outcome)))


def _banner(outcome: RecipeOutcome) -> Panel:
    verdict = verdict_of(outcome)
    colour = COLOURS[verdict]
    models = " → ".join(
        wording.model_name(card) for card in (baseline_of(outcome), candidate_of(outcome)) if card is not None
    )
    lines = [Text(f"{verdict}  {meaning_of(outcome)}", style=f"bold {colour}")]
    lines += [Text(f"• {wording.plain(reason)}") for reason in reasons_of(outcome)]
    lines += [Text(models, style="dim")] if models else []
    title = Text(
        wording.plain(outcome.recipe.name or outcome.run or "report"), style="bold", no_wrap=True, overflow="ellipsis"
    )
    return Panel(Group(*lines), title=title, title_align="left", box=HEAVY, border_style=colour)


def _head(sides: dict[str, str]) -> Table:
    """The column heads alone; each role's rows follow in a table of the same widths."""
    table = _columns(sides, has_heads=True)
    table.add_row()
    return table


def _columns(sides: dict[str, str], *, has_heads: bool = False) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), expand=True, show_header=has_heads)
    table.add_column("benchmark\n  attack", overflow="fold", ratio=1)
    for name in sides.values():
        table.add_column(f"{name}, n\n[interval]", justify="right", width=15)
    if len(sides) > 1:
        table.add_column("change, points\n[interval]", justify="right", width=14)
    table.add_column("invalid\ntruncated", justify="right", width=9)
    return table


def _role(role: str, members: list[Row], sides: dict[str, str]) -> Group:
    first = members[0]
    about = f"  {wording.metric_name(first.metric)}, {wording.direction(first.lower_is_better)}"
    table = _columns(sides)
    for row in members:
        table.add_row(*_cells(row, members, sides))
    return Group(Text.assemble((wording.role_name(role), "bold"), (about, "dim")), table, Text())


def _cells(row: Row, members: list[Row], sides: dict[str, str]) -> list[Text]:
    is_shared = sum((m.benchmark, m.attack) == (row.benchmark, row.attack) for m in members) > 1
    attack = f"{row.attack} ({row.judge})" if is_shared else row.attack
    return [
        Text.assemble(wording.plain(row.benchmark), (f"\n  {wording.plain(attack)}", "dim")),
        *(_measured(getattr(row, side)) for side in sides),
        *([_change(row)] if len(sides) > 1 else []),
        Text(f"{_counts(row, 'invalid')}\n{_counts(row, 'truncated')}"),
    ]


def _change(row: Row) -> Text:
    change = row.change
    if change is None:
        return Text(wording.NOTHING)
    said = f"{wording.points(change.value)} {change.word}\n{wording.change_interval(change)}"
    return Text(said, style=TONES[change.word])


def _measured(cell: Cell | None) -> Text:
    if cell is None:
        return Text("–")
    return Text(f"{wording.value(cell)} n {wording.count(cell, 'n')}\n{wording.interval(cell)}".rstrip())


def _counts(row: Row, field: str) -> str:
    is_paired = row.baseline is not None and row.candidate is not None
    return wording.both(wording.count(row.baseline, field), wording.count(row.candidate, field), is_paired)


def _flips(rows: list[Row], judges: dict[str, str]) -> Text:
    deciding = [row for row in rows if judges.get(row.benchmark, row.judge) == row.judge]
    compared = [row.comparison for row in deciding if row.comparison]
    worse, better, pairs = (sum(getattr(c, name) for c in compared) for name in ("worse", "better", "pairs"))
    return Text(f"Of {pairs:,} sample pairs {better:,} got better and {worse:,} got worse.", style="dim")
