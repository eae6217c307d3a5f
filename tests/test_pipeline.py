"""What a recipe asks of bench: all samples of the base, and of what was trained from it as many as its gate needs."""

from types import SimpleNamespace
from typing import Any

import pytest

from lrm_safety.nouns import Checkpoint, Endpoint, EndpointState, Gate, Recipe, Run, RunBenchmarksRequest, RunState
from lrm_safety.pipeline import Pipeline


@pytest.mark.parametrize(("method", "is_gated"), [("sequential", True), ("fixed", False)])
def test_only_a_sequential_gate_measures_against_the_baseline(method: str, is_gated: bool) -> None:
    asked: list[RunBenchmarksRequest] = []

    def run_benchmarks(request: RunBenchmarksRequest, timeout: float) -> Run:
        asked.append(request)
        return Run(id=f"bench-{len(asked)}", state=RunState.RUN_STATE_DONE)

    def retired(request: Any, timeout: float) -> Endpoint:
        return Endpoint(state=EndpointState.ENDPOINT_STATE_RETIRED)

    clients: Any = SimpleNamespace(
        bench=SimpleNamespace(RunBenchmarks=run_benchmarks),
        inference=SimpleNamespace(GetEndpoint=retired),
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
