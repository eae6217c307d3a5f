"""lrm import-log: what another tool measured, as a run to read and to compare with."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from lrm_safety import importing
from lrm_safety.cli._live import LiveStages
from lrm_safety.cli._output import AsJson, console, print_json
from lrm_safety.cli._services import connected
from lrm_safety.clients import rpc
from lrm_safety.errors import LrmError
from lrm_safety.importing import Foreign
from lrm_safety.nouns import ImportRunRequest, Run, RunState
from lrm_safety.pipeline import watch
from lrm_safety.settings import Settings

SEND_S = 600.0


def add_to(app: typer.Typer) -> None:
    app.command("import-log", epilog="Example: lrm import-log logs/2026-01-05_xstest.eval --role xstest=over_refusal")(
        import_log
    )


def import_log(
    path: Annotated[Path, typer.Argument(help="Inspect's .eval or .json, lm-eval's results_*.json, or their folder.")],
    role: Annotated[
        list[str] | None,
        typer.Option(help="task=role, and if need be what 1 means: task=harm:refusal; repeat. Ours say it themselves."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Keep another tool's log as a run: `lrm report`, `lrm tax` and `lrm gate` read it; a gate only on the same ids."""
    foreign = importing.read(path, role or [])
    with connected(Settings.from_env()) as clients, LiveStages() as stages:

        def send(foreign: Foreign, timeout: float) -> Run:
            return clients.bench.ImportRun(_requests(foreign), timeout=timeout)

        started = rpc(send, foreign, SEND_S)
        last = watch(clients, "bench", started, lambda seen: stages.stage("import", seen))
    if last.state != RunState.RUN_STATE_DONE:
        raise LrmError(f"{last.id} was not imported: {last.error or last.waiting}")
    if json:
        print_json(last)
    else:
        console.print(f"{last.id}  {len(foreign.records):,} records", highlight=False)


def _requests(foreign: Foreign) -> Iterator[ImportRunRequest]:
    yield ImportRunRequest(scorecard=foreign.scorecard)
    for record in foreign.records:
        yield ImportRunRequest(record=record)
