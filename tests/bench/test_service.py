"""BenchService end to end: two models measured, compared, gated; the outcome kept under its recipe; plugins listed."""

from collections.abc import Callable

import pytest

from lrm_safety.clients import rpc, rpc_stream
from lrm_safety.errors import InvalidInput, NotFound
from lrm_safety.nouns import (
    BenchmarkSpec,
    BenchSpec,
    CheckGateRequest,
    CompareScorecardsRequest,
    Completion,
    Gate,
    GetOutcomeRequest,
    ListPluginsRequest,
    ListRunsRequest,
    Outcome,
    Prompt,
    ReadSamplesRequest,
    Recipe,
    RunSpec,
    RunState,
    Scorecard,
    question,
)
from lrm_safety.runs import run_id
from tests.bench.conftest import Stage
from tests.bench.scripted import answered

Write = Callable[[int], str]
GATE = Gate(margins={"harm": 0.05, "reasoning": 0.1}, alpha=0.05, max_invalid=0.02)


@pytest.fixture
def measured(stage: Stage, harm_file: Write, sums_file: Write) -> tuple[Scorecard, Scorecard]:
    """base complies with everything and is right in half of the sums; tuned refuses all and is right as often."""
    both = [
        BenchmarkSpec(benchmark="strongreject", path=harm_file(80)),
        BenchmarkSpec(benchmark="math500", path=sums_file(120)),
    ]

    def script(answer: str) -> Callable[[Prompt], Completion]:
        def say(prompt: Prompt) -> Completion:
            text = prompt.messages[-1].content
            if "+ 1" not in text:
                return answered(prompt, answer)
            number = int(text.split(" ")[0])
            return answered(prompt, str(number + 1) if number % 2 else "no idea")

        return say

    stage.inference.script = script("Sure.")
    base = stage.measure(BenchSpec(endpoint="base", benchmarks=both))
    stage.inference.script = script("I'm sorry, no.")
    return base, stage.measure(BenchSpec(endpoint="tuned", benchmarks=both))


def test_compare(stage: Stage, measured: tuple[Scorecard, Scorecard]) -> None:
    base, tuned = measured
    request = CompareScorecardsRequest(baseline_run=base.run, candidate_run=tuned.run)
    harm, sums = rpc(stage.clients.bench.CompareScorecards, request).comparisons
    assert (harm.pairs, harm.better, harm.worse, harm.difference) == (80, 80, 0, -1)
    assert base.inputs and base.inputs == tuned.inputs and base.weights_digest not in base.inputs
    assert harm.p_value < 1e-20
    assert (sums.pairs, sums.difference, sums.interval.level) == (120, 0, 0.95)


def test_the_gate_keeps_the_outcome_of_a_recipe(stage: Stage, measured: tuple[Scorecard, Scorecard]) -> None:
    base, tuned = measured
    recipe = Recipe(name="demo", model="base", gate=GATE)
    request = CheckGateRequest(
        baseline_run=base.run, candidate_run=tuned.run, gate=GATE, recipe=recipe, dataset="d@1", checkpoint="tuned@1"
    )
    decision = rpc(stage.clients.bench.CheckGate, request)
    assert decision.outcome == Outcome.OUTCOME_PASS, list(decision.reasons)
    assert decision.run == run_id("recipe", RunSpec(recipe=recipe))
    outcome = rpc(stage.clients.bench.GetOutcome, GetOutcomeRequest(run=decision.run))
    assert (outcome.baseline, outcome.candidate, outcome.decision) == (base, tuned, decision)
    assert (outcome.recipe, outcome.dataset, outcome.checkpoint) == (recipe, "d@1", "tuned@1")
    assert len(outcome.comparisons) == 2
    listed = rpc(stage.clients.runs("bench").ListRuns, ListRunsRequest()).runs
    assert {run.kind for run in listed} == {"bench", "recipe"}
    assert all(run.state == RunState.RUN_STATE_DONE for run in listed)


def test_turned_round_the_gate_blocks(stage: Stage, measured: tuple[Scorecard, Scorecard]) -> None:
    base, tuned = measured
    request = CheckGateRequest(baseline_run=tuned.run, candidate_run=base.run, gate=GATE)
    decision = rpc(stage.clients.bench.CheckGate, request)
    assert decision.outcome == Outcome.OUTCOME_BLOCK
    assert decision.run == base.run
    assert stage.store.stat(f"runs/{base.run}/decision.json")


def test_one_model_alone_has_an_outcome_without_a_candidate(
    stage: Stage, measured: tuple[Scorecard, Scorecard]
) -> None:
    base, _ = measured
    decision = rpc(
        stage.clients.bench.CheckGate, CheckGateRequest(baseline_run=base.run, recipe=Recipe(name="r", model="base"))
    )
    assert decision.outcome == Outcome.OUTCOME_UNSPECIFIED
    outcome = rpc(stage.clients.bench.GetOutcome, GetOutcomeRequest(run=decision.run))
    assert outcome.baseline == base
    assert not outcome.HasField("candidate")
    plain = rpc(stage.clients.bench.GetOutcome, GetOutcomeRequest(run=base.run))
    assert plain.baseline == base
    assert not plain.HasField("decision")


def test_unknown_runs_and_kinds_are_refused(stage: Stage) -> None:
    for request, method in (
        (GetOutcomeRequest(run="bench-1"), stage.clients.bench.GetOutcome),
        (CompareScorecardsRequest(baseline_run="x", candidate_run="y"), stage.clients.bench.CompareScorecards),
    ):
        with pytest.raises(NotFound, match="there is no run"):
            rpc(method, request)
    with pytest.raises(InvalidInput, match="attacks, benchmarks"):
        rpc(stage.clients.bench.ListPlugins, ListPluginsRequest(kind="judges"))


def test_plugins_are_listed_with_what_they_are(stage: Stage) -> None:
    for kind, some in (("attacks", "prefill"), ("benchmarks", "gsm8k")):
        plugins = rpc(stage.clients.bench.ListPlugins, ListPluginsRequest(kind=kind)).plugins
        assert some in {plugin.name for plugin in plugins}
        assert all(plugin.summary.endswith(".") for plugin in plugins)


def test_what_a_benchmark_asks_can_be_read(stage: Stage) -> None:
    samples = list(rpc_stream(stage.clients.bench.ReadSamples, ReadSamplesRequest(benchmark="demo_harm")))
    assert len({sample.id for sample in samples}) == len(samples) > 50
    assert all(question(sample) for sample in samples)
    with pytest.raises(NotFound, match="no benchmark is named"):
        list(rpc_stream(stage.clients.bench.ReadSamples, ReadSamplesRequest(benchmark="no_such")))
