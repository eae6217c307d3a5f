"""lrm bench: what concerns a measurement itself."""

from functools import partial
from typing import Annotated

import typer

from lrm_safety.cli._live import followed
from lrm_safety.cli._output import AsJson, errors, print_json, print_table
from lrm_safety.cli._services import connected
from lrm_safety.clients import Clients, rpc
from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import (
    BenchSpec,
    CompareScorecardsRequest,
    Comparison,
    GetScorecardRequest,
    MeasureNoiseRequest,
    Noise,
    RunBenchmarksRequest,
)
from lrm_safety.report import wording
from lrm_safety.settings import Settings


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Measure the measurement.")
    group.callback()(_keep_as_group)
    group.command("noise", epilog="Example: lrm bench noise bench-1f… --repeats 3")(noise)
    group.command("compare", epilog="Example: lrm bench compare bench-1f… bench-2a…")(compare)
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


def compare(
    baseline: Annotated[str, typer.Argument(help="A bench run.")],
    candidate: Annotated[str, typer.Argument(help="Another, on the same samples.")],
    json: AsJson = False,
) -> None:
    """What changed between two runs on the same samples; decides nothing. In points, positive = worse."""
    request = CompareScorecardsRequest(baseline_run=baseline, candidate_run=candidate)
    with connected(Settings.from_env()) as clients:
        found = rpc(clients.bench.CompareScorecards, request).comparisons
    if json:
        print_json(found)
        return
    heads = ("benchmark", "attack", "judge", "pairs", "worse", "better", "worsening", "p", "Holm", "detectable")
    print_table(heads, map(_compared, found), "the two runs have no benchmark, attack and judge in common")
    errors.print(wording.TESTS)


def _compared(made: Comparison) -> tuple[str, ...]:
    ends = f"[{wording.points(made.interval.low)}, {wording.points(made.interval.high)}]"
    return (
        *map(wording.plain, (made.benchmark, made.attack, made.judge)),
        f"{made.pairs:,}",
        f"{made.worse:,}",
        f"{made.better:,}",
        f"{wording.points(made.difference)} {ends}" if made.pairs else wording.NOTHING,
        wording.p_value(made.p_value) if made.pairs else wording.NOTHING,
        wording.adjusted(made),
        wording.detectable(made),
    )


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
    return followed(clients, "bench", "noise", partial(rpc, clients.bench.RunBenchmarks, request)).id


def _rows(found: Noise) -> list[tuple[str, ...]]:
    return [
        (each.role, str(each.samples), str(each.pairs), str(each.flips), f"{100 * each.floor:.2f} points")
        for each in found.roles
    ]


def _keep_as_group() -> None:
    """Measure the measurement."""
