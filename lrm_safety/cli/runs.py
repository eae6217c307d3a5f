"""lrm runs: list, watch and cancel long work."""

import time
from typing import Annotated

import typer

from lrm_safety.cli._live import LiveStages
from lrm_safety.cli._output import AsJson, errors, print_json, print_table
from lrm_safety.cli._services import connected
from lrm_safety.clients import rpc
from lrm_safety.errors import LrmError
from lrm_safety.nouns import CancelRunRequest, GetRunRequest, ListRunsRequest, Run, RunState
from lrm_safety.pipeline import watch as follow_to_end
from lrm_safety.settings import Settings

# Every service mounts Runs over the same store, so any of them answers.
_ANY = "bench"
RunId = Annotated[str, typer.Argument(help="The run's id, see `lrm runs list`.")]


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="List, watch and cancel long work.")
    group.command("list", epilog="Example: lrm runs list --kind training")(list_)
    group.command("watch", epilog="Example: lrm runs watch training-0f3a…")(watch)
    group.command("cancel", epilog="Example: lrm runs cancel training-0f3a…")(cancel)
    app.add_typer(group, name="runs")


def list_(
    kind: Annotated[str, typer.Option(help="dataset, import, training, bench or recipe.")] = "", json: AsJson = False
) -> None:
    """List runs, newest first."""
    with connected(Settings.from_env()) as clients:
        runs = rpc(clients.runs(_ANY).ListRuns, ListRunsRequest(kind=kind)).runs
    if json:
        print_json(runs)
        return
    rows = [(run.id, _state(run), _progress(run), _age(run.created_at), run.error or run.waiting) for run in runs]
    print_table(("run", "state", "progress", "age", "note"), rows, "no runs yet; lrm run recipes/demo.yaml is a start")


def watch(run: RunId, json: AsJson = False) -> None:
    """Follow a run until it ends. Exit code 3 when it failed or was cancelled."""
    with connected(Settings.from_env()) as clients, LiveStages() as stages:
        started = rpc(clients.runs(_ANY).GetRun, GetRunRequest(id=run))
        last = follow_to_end(clients, _ANY, started, lambda seen: stages.stage(seen.kind, seen))
    if json:
        print_json(last)
    if last.state != RunState.RUN_STATE_DONE:
        raise LrmError(f"{last.id} is {_state(last)}: {last.error or last.waiting}")


def cancel(run: RunId, json: AsJson = False) -> None:
    """Ask a run to end. Asking for the same thing again goes on where it stopped."""
    with connected(Settings.from_env()) as clients:
        cancelled = rpc(clients.runs(_ANY).CancelRun, CancelRunRequest(id=run))
    if json:
        print_json(cancelled)
    else:
        errors.print(f"asked {cancelled.id} to end (it was {_state(cancelled)})", highlight=False)


def _state(run: Run) -> str:
    return RunState.Name(run.state).removeprefix("RUN_STATE_").lower()


def _progress(run: Run) -> str:
    progress = run.progress
    return f"{progress.done:.0f}/{progress.total:.0f} {progress.unit}" if progress.total else ""


def _age(created_at: float) -> str:
    minutes = int(time.time() - created_at) // 60
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"
