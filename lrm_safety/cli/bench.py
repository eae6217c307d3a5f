"""lrm bench: what concerns a measurement itself."""

from typing import Annotated

import typer

from lrm_safety.cli._live import LiveStages
from lrm_safety.cli._output import AsJson, print_json, print_table
from lrm_safety.cli._services import connected
from lrm_safety.clients import Clients, rpc
from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import BenchSpec, GetScorecardRequest, MeasureNoiseRequest, Noise, RunBenchmarksRequest
from lrm_safety.pipeline import follow
from lrm_safety.settings import Settings


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Measure the measurement.")
    group.callback()(_keep_as_group)
    group.command("noise", epilog="Example: lrm bench noise bench-1f… --repeats 3")(noise)
    app.add_typer(group, name="bench")


def noise(
    run: Annotated[list[str], typer.Argument(help="Bench runs of one model on one suite.")],
    repeats: Annotated[int, typer.Option(help="Measure the first run's model so often over, and compare those.")] = 0,
    json: AsJson = False,
) -> None:
    """How often does a baseline contradict itself? Gates refuse margins below what it finds."""
    with connected(Settings.from_env()) as clients:
        runs = [_repeated(clients, run[0], repeats)] if repeats else run
        found = rpc(clients.bench.MeasureNoise, MeasureNoiseRequest(runs=runs), timeout_s=600)
    if json:
        print_json(found)
    else:
        print_table(("role", "samples", "measured twice", "flips", "noise floor"), _rows(found), "nothing to compare")


def _repeated(clients: Clients, run: str, repeats: int) -> str:
    """A run of the same suite on the same model, each sample so often."""
    if repeats < 2:
        raise InvalidInput(f"--repeats is {repeats}; expected 2 or more")
    spec = BenchSpec()
    spec.CopyFrom(rpc(clients.bench.GetScorecard, GetScorecardRequest(run=run)).spec)
    spec.ClearField("gate")
    spec.ClearField("baseline_run")
    for each in spec.benchmarks:
        each.repeats = repeats
    request = RunBenchmarksRequest(spec=spec)
    with LiveStages() as stages:
        done = follow(
            clients,
            "bench",
            lambda: rpc(clients.bench.RunBenchmarks, request),
            lambda seen: stages.stage("noise", seen),
        )
    return done.id


def _rows(found: Noise) -> list[tuple[str, ...]]:
    return [
        (each.role, str(each.samples), str(each.pairs), str(each.flips), f"{100 * each.floor:.2f} points")
        for each in found.roles
    ]


def _keep_as_group() -> None:
    """Measure the measurement."""
