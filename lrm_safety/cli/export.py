"""lrm export: a run in the form of another tool: Inspect's viewer, lm-eval's results, Parquet for data frames."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from lrm_safety import export as exports
from lrm_safety.cli._output import AsJson, console, print_json
from lrm_safety.cli._services import connected
from lrm_safety.cli.report import READ_S
from lrm_safety.clients import Clients, rpc, rpc_stream
from lrm_safety.export import MeasuredRun
from lrm_safety.nouns import GetOutcomeRequest, ReadRecordsRequest, Record, Scorecard
from lrm_safety.settings import Settings


def add_to(app: typer.Typer) -> None:
    app.command("export", epilog="Example: lrm export bench-1f3a… --to inspect --out logs")(export)


def export(
    run: Annotated[str, typer.Argument(help="A bench run's id, or a recipe's: then each of its models in a folder.")],
    to: Annotated[str, typer.Option(help="inspect, lm_eval or parquet; see `lrm list exports`.")],
    out: Annotated[Path, typer.Option(help="Folder for the files.")],
    with_text: Annotated[
        bool, typer.Option("--with-text", help="Also prompts, thinking and answers: harmful text leaves your custody.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Write a run for another tool. Texts stay here unless you ask for them; their lengths and digests leave."""
    with connected(Settings.from_env()) as clients:
        paths = [
            path
            for folder, measured in measured_in(clients, run, out)
            for path in exports.write(measured, to, folder, is_with_text=with_text)
        ]
    if json:
        print_json({"run": run, "to": to, "with_text": with_text, "files": [str(path) for path in paths]})
        return
    for path in paths:
        console.print(str(path), highlight=False, soft_wrap=True)


def measured_in(clients: Clients, run: str, out: Path) -> Iterator[tuple[Path, MeasuredRun]]:
    """The bench runs that a run's id stands for, each with its folder."""
    outcome = rpc(clients.bench.GetOutcome, GetOutcomeRequest(run=run))
    if not outcome.HasField("candidate"):
        yield out, measured(clients, outcome.baseline)
        return
    yield out / "baseline", measured(clients, outcome.baseline)
    yield out / "candidate", measured(clients, outcome.candidate)


def measured(clients: Clients, card: Scorecard) -> MeasuredRun:
    def records() -> Iterator[Record]:
        yield from rpc_stream(clients.bench.ReadRecords, ReadRecordsRequest(run=card.run), READ_S)

    return MeasuredRun(card, records)
