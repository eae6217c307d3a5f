"""lrm runs: list, watch, explain and cancel long work."""

import time
from typing import Annotated

import typer

from lrm_safety.cli._live import LiveStages, clock
from lrm_safety.cli._output import AsJson, console, errors, print_json, print_table
from lrm_safety.cli._services import connected
from lrm_safety.clients import rpc
from lrm_safety.errors import LrmError
from lrm_safety.nouns import CancelRunRequest, GetRunRequest, ListRunsRequest, Run, RunState
from lrm_safety.pipeline import watch as follow_to_end
from lrm_safety.settings import Settings

# Every service mounts Runs over the same store, so any of them answers.
_ANY = "bench"
SILENT_S = 120.0  # a run at work writes every few seconds
RunId = Annotated[str, typer.Argument(help="The run's id, see `lrm runs list`.")]


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="List, watch, explain and cancel long work.")
    group.command("list", epilog="Example: lrm runs list --kind training")(list_)
    group.command("watch", epilog="Example: lrm runs watch training-0f3a…")(watch)
    group.command("why", epilog="Example: lrm runs why training-0f3a… --json")(why)
    group.command("cancel", epilog="Example: lrm runs cancel training-0f3a…")(cancel)
    app.add_typer(group, name="runs")


def list_(
    kind: Annotated[str, typer.Option(help="dataset, import, training, analysis, bench or recipe.")] = "",
    json: AsJson = False,
) -> None:
    """List runs, newest first."""
    with connected(Settings.from_env()) as clients:
        runs = rpc(clients.runs(_ANY).ListRuns, ListRunsRequest(kind=kind)).runs
    if json:
        print_json(runs)
        return
    rows = [
        (run.id, _state(run), _progress(run), _age(run.created_at, time.time()), run.error or run.waiting)
        for run in runs
    ]
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


def why(run: RunId, json: AsJson = False) -> None:
    """Say what a run waits for, how far it is, or why it ended. Exit code 3 when it failed or was cancelled."""
    with connected(Settings.from_env()) as clients:
        asked = rpc(clients.runs(_ANY).GetRun, GetRunRequest(id=run))
    words = explained(asked, time.time())
    if json:
        print_json({"run": asked.id, "state": _state(asked), "why": words})
    else:
        console.print(words, highlight=False, markup=False, soft_wrap=True)
    if asked.state in (RunState.RUN_STATE_FAILED, RunState.RUN_STATE_CANCELLED):
        raise typer.Exit(3)


def explained(run: Run, now: float) -> str:
    """One or two sentences about why the run is where it is. `now` in seconds since 1970."""
    ends = {
        RunState.RUN_STATE_DONE: f"is done: {run.result}",
        RunState.RUN_STATE_CANCELLED: "was cancelled; asking for the same thing again goes on where it stopped",
        RunState.RUN_STATE_FAILED: f"failed: {run.error or 'nobody knows why'}",
    }
    return f"{run.id} {ends.get(run.state) or _going_on(run, now)}"


def _going_on(run: Run, now: float) -> str:
    progress = run.progress
    if run.waiting:
        so_far = f" (so far: {progress.stage}, {_progress(run)})" if progress.done else ""
        return f"waits: {run.waiting}{so_far}"
    if not progress.stage:
        return f"was asked for {_age(run.created_at, now)} ago and has not begun to count its work"
    eta = f"about {clock(progress.eta_s)} to go" if progress.HasField("eta_s") else "no estimate yet"
    is_silent = now - run.updated_at > SILENT_S
    silence = f"; nothing was heard of it for {_age(run.updated_at, now)}" if is_silent else ""
    return f"is at work: {progress.stage}, {_progress(run) or 'not counted'}, {eta}{silence}"


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


def _age(since: float, now: float) -> str:
    minutes = int(now - since) // 60
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"
