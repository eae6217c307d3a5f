"""lrm tax: what safety costs in reasoning, over checkpoints, epochs, data mixes or thinking budgets."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from lrm_safety import tax as taxes
from lrm_safety.cli._output import AsJson, console, errors, print_json, print_table
from lrm_safety.cli._services import connected
from lrm_safety.cli.report import READ_S
from lrm_safety.clients import Clients, rpc, rpc_stream
from lrm_safety.errors import Conflict
from lrm_safety.nouns import GetOutcomeRequest, ReadRecordsRequest, Scorecard
from lrm_safety.report import wording
from lrm_safety.settings import Settings
from lrm_safety.tax_plot import tax_svg
from lrm_safety.tax_report import COLUMNS, as_json, markdown, notes, rows


def add_to(app: typer.Typer) -> None:
    app.command("tax", epilog="Example: lrm tax base=bench-1f… epoch1=bench-2a… epoch5=bench-3c… --out tax")(tax)


def tax(
    runs: Annotated[list[str], typer.Argument(help="Bench or recipe runs on one suite, the baseline first; name=RUN.")],
    out: Annotated[Path | None, typer.Option(help="Also write tax.md, tax.svg into this folder.")] = None,
    json: AsJson = False,
) -> None:
    """Show the three axes of each run, who is on the frontier, and the price of a point of safety in reasoning.

    A recipe's run stands for both of its models.
    """
    with connected(Settings.from_env()) as clients:
        points = [
            taxes.read_point(
                card, rpc_stream(clients.bench.ReadRecords, ReadRecordsRequest(run=card.run), READ_S), name
            )
            for name, card in _named(clients, runs)
        ]
    made = taxes.compute(points)
    if out:
        write(made, out)
        errors.print(f"plot: {out / 'tax.svg'}", highlight=False, soft_wrap=True)
    if json:
        print_json(as_json(made))
        return
    print_table(COLUMNS, rows(made), "no runs")
    for note in notes(made):
        console.print(f"[dim]{note}[/]", highlight=False)


def write(made: taxes.Tax, folder: Path) -> None:
    """Raises Conflict when the folder cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tax.svg").write_text(tax_svg(made), encoding="utf-8")
        (folder / "tax.md").write_text(markdown(made, "tax.svg"), encoding="utf-8")
    except OSError as error:
        raise Conflict(f"{folder} cannot be written ({error.strerror}); name another folder") from error


def _named(clients: Clients, runs: list[str]) -> list[tuple[str, Scorecard]]:
    """Scorecards under the names that were given, or their models'; one that several recipes share is there once."""
    found: dict[str, tuple[str, Scorecard]] = {}
    for text in runs:
        name, _, run = text.rpartition("=")
        outcome = rpc(clients.bench.GetOutcome, GetOutcomeRequest(run=run))
        cards = [outcome.baseline, *([outcome.candidate] if outcome.HasField("candidate") else [])]
        for card in cards:
            own = name if name and card is cards[-1] else wording.model_name(card)
            found.setdefault(card.run, (own, card))
    return list(_told_apart(list(found.values())))


def _told_apart(named: list[tuple[str, Scorecard]]) -> Iterator[tuple[str, Scorecard]]:
    """One model measured twice, as with two thinking budgets, is told apart by its limit of tokens, else by its run."""
    names = [name for name, _ in named]
    longer = [f"{name}, {card.spec.sampling.max_tokens} tokens" for name, card in named]
    for name, long, (_, card) in zip(names, longer, named, strict=True):
        if names.count(name) == 1:
            yield name, card
        else:
            yield long if longer.count(long) == 1 else f"{name}, {card.run}", card
