"""Checkpoints get their verdict unasked, once, whoever announces them, and through restarts."""

import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from lrm_safety import artefacts, jsonl, serving
from lrm_safety.cli._services import is_serving
from lrm_safety.clients import Clients, rpc
from lrm_safety.errors import InvalidInput, NotFound
from lrm_safety.nouns import (
    CancelRunRequest,
    Checkpoint,
    Gate,
    GateCheckpointRequest,
    GetOutcomeRequest,
    GetRunRequest,
    ListPoliciesRequest,
    ListRunsRequest,
    Outcome,
    Policy,
    RecipeOutcome,
    RegisterPolicyRequest,
    Run,
    RunState,
    Tenant,
    has_ended,
)
from lrm_safety.settings import Settings, process_env
from lrm_safety.store import ObjectStore
from services.bench import service, trigger
from tests.bench.gated import DeployingInference, gate_policy, named, publish
from tests.bench.scripted import ScriptedJudge
from tests.bench.test_evaluate import wait_for
from tests.conftest import free_ports

PASS, BLOCK = Outcome.OUTCOME_PASS, Outcome.OUTCOME_BLOCK
Serve = Callable[..., serving.Server]


@dataclass
class Floor:
    clients: Clients
    store: ObjectStore
    inference: DeployingInference
    settings: Settings
    serve: Serve
    folder: Path

    def publish(self, name: str, weights: str, base: str = "") -> Checkpoint:
        return publish(self.store, self.folder / name, name, weights, base)

    def ask(self, policy: Policy, checkpoint: Checkpoint, clients: Clients | None = None) -> Run:
        request = GateCheckpointRequest(policy=policy, checkpoint=named(checkpoint))
        return rpc((clients or self.clients).bench.GateCheckpoint, request)

    def finish(self, run: str) -> Run:
        until = time.monotonic() + 60
        while not has_ended(last := rpc(self.clients.runs("bench").GetRun, GetRunRequest(id=run))):
            assert time.monotonic() < until, last
            time.sleep(0.05)
        return last

    def outcome(self, run: str) -> RecipeOutcome:
        ended = self.finish(run)
        assert ended.state == RunState.RUN_STATE_DONE, ended.error
        return rpc(self.clients.bench.GetOutcome, GetOutcomeRequest(run=run))

    def gates(self) -> list[Run]:
        return list(rpc(self.clients.runs("bench").ListRuns, ListRunsRequest(kind="gate")).runs)

    def wait_for_gates(self, count: int) -> list[Run]:
        until = time.monotonic() + 30
        while len(self.gates()) < count:
            assert time.monotonic() < until
            time.sleep(0.1)
        return self.gates()


@pytest.fixture
def floor(
    settings: Settings,
    store: ObjectStore,
    clients: Clients,
    serve: Serve,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Floor:
    monkeypatch.setattr(trigger, "EVERY_S", 0.2)
    inference = DeployingInference(store=store)
    serve("inference", inference.register)
    serve("judge", ScriptedJudge().register)
    serve("bench", service.register)
    return Floor(clients, store, inference, settings, serve, tmp_path / "weights")


def test_a_good_and_a_damaged_checkpoint_get_their_verdict_unasked(
    floor: Floor, harm_file: Callable[[int], str]
) -> None:
    base = floor.publish("base", "good, at first")
    old = floor.publish("tuned-old", "good, from before", named(base))
    policy = rpc(floor.clients.bench.RegisterPolicy, RegisterPolicyRequest(policy=gate_policy(harm_file(60))))
    assert list(rpc(floor.clients.bench.ListPolicies, ListPoliciesRequest()).policies) == [policy]
    good = floor.publish("tuned", "good, tuned", named(base))
    floor.publish("other", "good, but on no line of the policy", named(base))
    (run,) = floor.wait_for_gates(1)
    first = floor.outcome(run.id)
    assert (first.decision.outcome, first.checkpoint) == (PASS, named(good))
    assert first.baseline.checkpoint == named(base)
    bad = floor.publish("tuned", "bad: damaged", named(base))
    run = next(each for each in floor.wait_for_gates(2) if each.id != run.id)
    second = floor.outcome(run.id)
    assert (second.decision.outcome, second.checkpoint) == (BLOCK, named(bad))
    assert second.baseline.checkpoint == named(good)  # the last that passed on the line
    assert floor.inference.deployed == {named(base): 1, named(good): 1, named(bad): 1}  # a baseline is measured once
    assert {each.state for each in floor.inference.endpoints.values()} == {4}  # retired
    third = floor.publish("tuned", "good, once more", named(base))
    run = next(each for each in floor.wait_for_gates(3) if each.spec.gate.checkpoint == named(third))
    assert floor.outcome(run.id).baseline.checkpoint == named(good)  # what was blocked is no baseline
    assert named(old) not in {each.spec.gate.checkpoint for each in floor.gates()}


def test_announced_fifty_times_at_once_to_two_replicas_it_runs_once(
    floor: Floor, harm_file: Callable[[int], str]
) -> None:
    (port,) = free_ports(1)
    addresses = {**floor.settings.addresses, "bench": f"127.0.0.1:{port}"}
    floor.serve("bench", service.register, addresses=addresses)
    other = Clients(replace(floor.settings, addresses=addresses))
    policy = gate_policy(harm_file(40))
    base = floor.publish("base", "good")
    made = floor.publish("tuned", "good, tuned", named(base))
    with ThreadPoolExecutor(50) as pool:
        asked = list(pool.map(lambda n: floor.ask(policy, made, other if n % 2 else None), range(50)))
    other.close()
    assert len({run.id for run in asked}) == 1
    assert floor.outcome(asked[0].id).decision.outcome == PASS
    assert len(floor.gates()) == 1
    assert sum(floor.inference.asked.values()) == 80  # 40 prompts, two models
    assert len(list(floor.store.list(f"runs/{asked[0].id}/epochs/"))) == 1
    again = floor.ask(policy, made)  # what has passed since changes no question that was asked
    assert (again.id, again.state) == (asked[0].id, RunState.RUN_STATE_DONE)


def test_a_sequential_policy_asks_no_more_than_it_takes(floor: Floor, harm_file: Callable[[int], str]) -> None:
    base = floor.publish("base", "good")
    made = floor.publish("tuned", "bad", named(base))
    floor.inference.delay_s = 0.01
    policy = gate_policy(harm_file(300), gate=Gate(method="sequential"))
    outcome = floor.outcome(floor.ask(policy, made).id)
    assert outcome.decision.outcome == BLOCK
    assert floor.inference.asked[f"base-{base.digest[:8]}"] == 300
    assert floor.inference.asked[f"tuned-{made.digest[:8]}"] < 200
    assert outcome.decision.saved.skipped > 100


def test_a_gate_goes_on_when_its_process_was_killed(floor: Floor, harm_file: Callable[[int], str]) -> None:
    floor.inference.delay_s = 0.05
    base = floor.publish("base", "good")
    made = floor.publish("tuned", "bad", named(base))
    (port,) = free_ports(1)
    elsewhere = replace(floor.settings, addresses={**floor.settings.addresses, "bench": f"127.0.0.1:{port}"})
    process = subprocess.Popen([sys.executable, "-m", "services", "bench"], env=process_env(elsewhere.to_env()))
    try:
        clients = Clients(elsewhere)
        wait_for(lambda: is_serving(elsewhere, elsewhere.addresses["bench"]))
        run = floor.ask(gate_policy(harm_file(40)), made, clients)
        clients.close()
        wait_for(lambda: sum(floor.inference.asked.values()) > 0)
    finally:
        process.kill()
        process.wait()
    floor.inference.delay_s = 0
    assert floor.outcome(run.id).decision.outcome == BLOCK  # by another replica, which nobody asked
    assert floor.finish(run.id).epoch == 2


def test_the_most_urgent_goes_first(floor: Floor, harm_file: Callable[[int], str]) -> None:
    floor.inference.delay_s = 0.02
    base = floor.publish("base", "good")
    policy = gate_policy(harm_file(30))
    made = {name: floor.publish(f"tuned-{name}", f"good {name}", named(base)) for name in ("a", "filler", "urgent")}
    first = floor.ask(policy, made["a"])
    for name in ("filler", "urgent"):
        policy.priority = name
        floor.ask(policy, made[name])
    runs = {run.spec.gate.checkpoint.split("@")[0]: run for run in floor.gates()}
    assert "its turn" in runs["tuned-filler"].waiting
    ended = {name: floor.finish(run.id).updated_at for name, run in runs.items()}
    assert ended["tuned-a"] < ended["tuned-urgent"] < ended["tuned-filler"]
    assert runs["tuned-urgent"].tenant == Tenant(priority="urgent")
    assert first.id == runs["tuned-a"].id


def test_a_cancelled_gate_cancels_its_measurement_and_frees_its_engine(
    floor: Floor, harm_file: Callable[[int], str]
) -> None:
    floor.inference.delay_s = 0.1
    base = floor.publish("base", "good")
    run = floor.ask(gate_policy(harm_file(200)), floor.publish("tuned", "bad", named(base)))
    while not floor.inference.asked:
        time.sleep(0.05)
    rpc(floor.clients.runs("bench").CancelRun, CancelRunRequest(id=run.id))
    assert floor.finish(run.id).state == RunState.RUN_STATE_CANCELLED
    (measured,) = rpc(floor.clients.runs("bench").ListRuns, ListRunsRequest(kind="bench")).runs
    assert floor.finish(measured.id).state == RunState.RUN_STATE_CANCELLED
    assert {each.state for each in floor.inference.endpoints.values()} == {4}


def test_what_cannot_be_gated_is_said(floor: Floor, harm_file: Callable[[int], str]) -> None:
    policy = gate_policy(harm_file(10))
    alone = floor.publish("tuned", "good")
    with pytest.raises(InvalidInput, match="set `baseline` in the policy"):
        floor.ask(policy, alone)
    with pytest.raises(NotFound, match="no checkpoints match"):
        rpc(floor.clients.bench.GateCheckpoint, GateCheckpointRequest(policy=policy, checkpoint="nobody"))
    with pytest.raises(InvalidInput, match="40 hex digits"):
        request = GateCheckpointRequest(policy=policy, checkpoint=named(alone), commit="main")
        rpc(floor.clients.bench.GateCheckpoint, request)
    embedder = artefacts.publish(floor.store, "checkpoints", floor.folder / "tuned", Checkpoint(name="e", embeds=True))
    with pytest.raises(InvalidInput, match="gives embeddings and no answers"):
        floor.ask(policy, embedder)
    named_base = floor.publish("base", "good base")
    policy.baseline = "base"
    assert floor.outcome(floor.ask(policy, alone).id).baseline.checkpoint == named(named_base)


def test_registered_again_a_policy_keeps_its_date_unless_it_changed(
    floor: Floor, harm_file: Callable[[int], str]
) -> None:
    policy = gate_policy(harm_file(10))
    first = rpc(floor.clients.bench.RegisterPolicy, RegisterPolicyRequest(policy=policy))
    assert rpc(floor.clients.bench.RegisterPolicy, RegisterPolicyRequest(policy=policy)) == first
    policy.gate.margins["harm"] = 0.2
    changed = rpc(floor.clients.bench.RegisterPolicy, RegisterPolicyRequest(policy=policy))
    assert changed.registered_at > first.registered_at
    assert jsonl.loads(Policy, floor.store.read("policies/nightly.json")) == changed
    del policy.checkpoints[:]
    with pytest.raises(InvalidInput, match="`checkpoints` is empty"):
        rpc(floor.clients.bench.RegisterPolicy, RegisterPolicyRequest(policy=policy))
