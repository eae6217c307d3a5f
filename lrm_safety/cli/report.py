"""lrm report: what a run came to."""

from pathlib import Path
from typing import Annotated

import typer

from lrm_safety.cli._output import AsJson, console, errors, print_json
from lrm_safety.cli._services import connected
from lrm_safety.clients import Clients, rpc, rpc_stream
from lrm_safety.errors import NotFound
from lrm_safety.nouns import (
    GetDatasetRequest,
    GetOutcomeRequest,
    GetSetupRequest,
    ListRunsRequest,
    Outcome,
    ReadMetricsRequest,
    ReadRecordsRequest,
    TrainingSetup,
)
from lrm_safety.report import ReportData, as_json, terminal, write_folder
from lrm_safety.settings import Settings

READ_S = 600.0  # for all rows of a run
EXIT_CODES = {
    Outcome.OUTCOME_UNSPECIFIED: 0,
    Outcome.OUTCOME_PASS: 0,
    Outcome.OUTCOME_BLOCK: 1,
    Outcome.OUTCOME_INCONCLUSIVE: 2,
}


def add_to(app: typer.Typer) -> None:
    app.command("report", epilog="Example: lrm report recipe-0f3a… --out reports/demo")(report)


def report(
    run: Annotated[str, typer.Argument(help="A recipe's or a bench run's id; default the newest recipe's.")] = "",
    out: Annotated[
        Path | None, typer.Option(help="Also write report.html, .md, .json and axes.svg into this folder.")
    ] = None,
    samples: Annotated[bool, typer.Option(help="Put the samples into the page; leave them out to publish it.")] = True,
    json: AsJson = False,
) -> None:
    """Print the result of a run; with --out write its page, Markdown and JSON."""
    with connected(Settings.from_env()) as clients:
        data = gather(clients, run or _newest(clients))
        if out:
            errors.print(f"report: {write(data, out, samples) / 'report.html'}", highlight=False)
    if json:
        print_json(as_json(data))
    else:
        terminal(data, console)


def gather(clients: Clients, run: str) -> ReportData:
    """Everything a report shows of a run, by RPC; its records are read when they are asked for."""
    outcome = rpc(clients.bench.GetOutcome, GetOutcomeRequest(run=run))
    dataset = rpc(clients.data.GetDataset, GetDatasetRequest(dataset=outcome.dataset)) if outcome.dataset else None
    request = ReadMetricsRequest(run=outcome.training_run)
    metrics = list(rpc_stream(clients.trainer.ReadMetrics, request, READ_S)) if outcome.training_run else []
    return ReportData(
        outcome,
        dataset,
        metrics,
        lambda id_: rpc_stream(clients.bench.ReadRecords, ReadRecordsRequest(run=id_), READ_S),
        _setup(clients, outcome.training_run) if outcome.training_run else None,
    )


def _setup(clients: Clients, run: str) -> TrainingSetup | None:
    """None for a training of before set-ups were kept."""
    try:
        return rpc(clients.trainer.GetSetup, GetSetupRequest(run=run))
    except NotFound:
        return None


def write(data: ReportData, folder: Path, samples: bool = True) -> Path:
    write_folder(data, folder, with_samples=samples)
    return folder


def _newest(clients: Clients) -> str:
    runs = rpc(clients.runs("bench").ListRuns, ListRunsRequest(kind="recipe")).runs
    if not runs:
        raise NotFound("no recipe has been run to its end yet; `lrm run recipes/demo.yaml` is a start")
    return runs[0].id
