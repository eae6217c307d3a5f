"""What a recipe asks of bench: all samples of the base, and of what was trained from it as many as its gate needs."""

from types import SimpleNamespace
from typing import Any

import pytest

from lrm_safety.nouns import (
    BuildDatasetRequest,
    Checkpoint,
    Endpoint,
    EndpointState,
    Gate,
    GetCheckpointRequest,
    Recipe,
    RetireRequest,
    Run,
    RunBenchmarksRequest,
    RunState,
    TrainingSpec,
    TrainRequest,
)
from lrm_safety.pipeline import Pipeline


@pytest.mark.parametrize(("method", "is_gated"), [("sequential", True), ("fixed", False)])
def test_only_a_sequential_gate_measures_against_the_baseline(method: str, is_gated: bool) -> None:
    asked: list[RunBenchmarksRequest] = []

    def run_benchmarks(request: RunBenchmarksRequest, timeout: float) -> Run:
        asked.append(request)
        return Run(id=f"bench-{len(asked)}", state=RunState.RUN_STATE_DONE)

    def ready(request: Any, timeout: float) -> Endpoint:
        return Endpoint(state=EndpointState.ENDPOINT_STATE_READY)

    def retire(request: RetireRequest, timeout: float) -> Endpoint:
        assert request.unless_needed  # by another run
        return Endpoint(state=EndpointState.ENDPOINT_STATE_RETIRED)

    clients: Any = SimpleNamespace(
        bench=SimpleNamespace(RunBenchmarks=run_benchmarks),
        inference=SimpleNamespace(GetEndpoint=ready, Retire=retire),
        patience_s=lambda service: 0,
    )
    gate = Gate(margins={"harm": 0.1}, method=method)
    watcher: Any = SimpleNamespace(stage=lambda name, run: None)
    pipeline = Pipeline(clients, Recipe(model="base", gate=gate), watcher)
    base = pipeline._measure("measure base", Checkpoint(name="base", digest="0" * 64))
    pipeline._measure("measure trained", Checkpoint(name="tuned", digest="1" * 64), base)
    first, second = (request.spec for request in asked)
    assert not first.baseline_run and not first.HasField("gate")
    assert (second.baseline_run, second.HasField("gate")) == (("bench-1", True) if is_gated else ("", False))
    assert not is_gated or second.gate == gate


def test_each_stage_trains_what_the_one_before_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the last stage's result, not the import, is what the recipe's own training is measured against."""
    trained: list[TrainingSpec] = []

    def train(request: TrainRequest, timeout: float) -> Run:
        trained.append(request.spec)
        return Run(id="t", state=RunState.RUN_STATE_DONE, result=f"{request.spec.name}@{len(trained)}")

    def build(request: BuildDatasetRequest, timeout: float) -> Run:
        return Run(id="d", state=RunState.RUN_STATE_DONE, result=f"{request.spec.name} for {request.spec.tokenizer}")

    def checkpoint(request: GetCheckpointRequest, timeout: float) -> Checkpoint:
        name, _, digest = request.checkpoint.partition("@")
        return Checkpoint(name=name, digest=digest or "0")

    clients: Any = SimpleNamespace(
        trainer=SimpleNamespace(Train=train, GetCheckpoint=checkpoint),
        data=SimpleNamespace(BuildDataset=build),
        bench=SimpleNamespace(
            CheckGate=lambda request, timeout: SimpleNamespace(run="done"), GetOutcome=lambda request, timeout: request
        ),
        patience_s=lambda service: 0,
    )
    recipe = Recipe(model="base")
    for name in ("reasoning", "more"):
        recipe.stages.add(dataset={"name": name, "tokenizer": "base"}, training={"name": name})
    recipe.training.name = recipe.dataset.name = "safe"
    measured: list[str] = []
    pipeline = Pipeline(clients, recipe, SimpleNamespace(stage=lambda name, run: None))  # type: ignore[arg-type]
    monkeypatch.setattr(pipeline, "_measure", lambda stage, checkpoint, *_: measured.append(checkpoint.name) or "")
    monkeypatch.setattr("lrm_safety.pipeline.CheckGateRequest", lambda **fields: fields)
    monkeypatch.setattr("lrm_safety.pipeline.GetOutcomeRequest", lambda run: run)
    pipeline.run()
    assert [(spec.name, spec.base) for spec in trained] == [
        ("reasoning", "base@0"),
        ("more", "reasoning@1"),
        ("safe", "more@2"),
    ]
    assert trained[1].dataset == "more for reasoning@1"
    assert measured == ["more", "safe"]
