"""Engines in a cluster: how their jobs look, which replica gets what, idling and waking, draining, what it costs."""

import json
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from lrm_safety import costs
from lrm_safety.errors import Conflict, InvalidInput, Unavailable
from lrm_safety.jobs.machine import Machine
from lrm_safety.nouns import (
    Completion,
    DeployRequest,
    Endpoint,
    EndpointState,
    EngineSpec,
    Prompt,
    Sampling,
    Tenant,
    user,
)
from lrm_safety.settings import Settings
from lrm_safety.store import ObjectStore
from services.inference import placement
from services.inference.cache import CompletionCache
from services.inference.endpoints import Endpoints
from services.inference.generate import Generator
from services.inference.routing import PREFIX_CHARS
from services.inference.uses import Uses
from tests.conftest import free_ports
from tests.inference.conftest import Publish
from tests.inference.pods import Pods

READY, IDLE = EndpointState.ENDPOINT_STATE_READY, EndpointState.ENDPOINT_STATE_IDLE
GPUS = Machine(cpus=32, memory_gib=256, gpus=8, has_fast_bf16=True, gpu_hour_price=3.6)
TEAM = Tenant(team="red", cost_centre="42")


class Replica:
    """One replica of the inference service, without its wire."""

    def __init__(self, store: ObjectStore, pods: Pods, settings: Settings) -> None:
        self.generator = Generator(CompletionCache(store))
        self.endpoints = Endpoints(store, pods, settings, self.generator.probe)

    def deploy(self, checkpoint: str = "one", **spec: object) -> Endpoint:
        request = DeployRequest(name="e", checkpoint=checkpoint, engine=EngineSpec(**spec), think_style="none")
        return self.endpoints.deploy(request, TEAM)

    def ask(self, *texts: str) -> list[Completion]:
        prompts = [Prompt(id=str(i), messages=[user(text)]) for i, text in enumerate(texts)]
        with self.endpoints.asked("e", lambda: True) as target:
            look = lambda: self.endpoints.replicas("e")  # noqa: E731
            return list(self.generator.generate(target, prompts, Sampling(), look))

    def wait_until(self, state: int, within_s: float = 60) -> Endpoint:
        deadline = time.monotonic() + within_s
        while (endpoint := self.endpoints.get("e")).state != state:
            assert time.monotonic() < deadline, endpoint
            time.sleep(0.1)
        return endpoint


@pytest.fixture
def pods(store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pods]:
    monkeypatch.setattr(placement, "POD_PORT", free_ports(1)[0])
    made = Pods(store, tmp_path / "pods", GPUS)
    yield made
    made.stop()


@pytest.fixture
def replica(store: ObjectStore, pods: Pods, settings: Settings) -> Iterator[Callable[[], Replica]]:
    """replica() is one more replica of the service; engines are idle after a second, if not told otherwise."""
    made: list[Replica] = []

    def make(idle_s: float = 1.0) -> Replica:
        made.append(Replica(store, pods, replace(settings, jobs="cluster", engine_idle_s=idle_s)))
        return made[-1]

    yield make
    for each in made:
        each.generator.close()


def test_the_job_of_an_engine(replica: Callable[..., Replica], pods: Pods, publish: Publish, tmp_path: Path) -> None:
    made = publish("one")
    pods.waiting = "for a node with nvidia.com/gpu"
    endpoint = replica().deploy(replicas=2, node_pool="a100", max_model_tokens=9000)
    (spec,) = pods.submitted
    assert (spec.image, spec.kind, spec.port, spec.replicas, spec.gpus) == (
        "engine",
        "engine",
        placement.POD_PORT,
        2,
        1,
    )
    assert (spec.node_pool, spec.team, spec.cost_centre, spec.priority) == ("a100", "red", "42", "filler")
    assert (spec.weights, spec.cpus) == (f"one@{made.digest}", 4)  # an eighth of the node for one of eight GPUs
    assert spec.command[:3] == ["python3", "-m", "vllm.entrypoints.openai.api_server"]
    words = " ".join(spec.command)
    assert f"--model /var/lib/lrm/models/{made.digest} " in words
    assert f"--host 0.0.0.0 --port {placement.POD_PORT} " in words
    assert "--load-format safetensors" in words
    assert not [word for word in spec.command if "remote-code" in word or "lora" in word]
    assert endpoint.url == f"http://{spec.id}:{placement.POD_PORT}/v1"
    waiting = replica().endpoints.get("e")
    assert waiting.error == "waiting: for a node with nvidia.com/gpu"
    state = tmp_path / "state"
    assert not list(state.rglob("*.safetensors"))  # nobody but the pods needs weights
    assert (state / "templates" / made.digest / "chat_template.jinja").exists()


def test_transformers_runs_in_the_worker_image(replica: Callable[..., Replica], pods: Pods, publish: Publish) -> None:
    publish("one")
    pods.waiting = "for nothing"
    replica().deploy(engine="transformers")
    assert pods.submitted[0].image == "worker"
    assert pods.submitted[0].command[:4] == ["python", "-m", "transformers.cli.transformers", "serve"]


def test_what_cannot_be(replica: Callable[..., Replica], pods: Pods, publish: Publish) -> None:
    publish("one")
    pods.waiting = "for nothing"
    replica().deploy(replicas=2)
    assert replica().deploy(replicas=2).spec.replicas == 2
    with pytest.raises(Conflict, match="runs with replicas 2"):
        replica().deploy(replicas=3)
    with pytest.raises(InvalidInput, match=r"engine\.replicas is -1"):
        replica().deploy(replicas=-1)


def test_prefixes_stay_together_and_a_dead_replica_is_passed_over(
    replica: Callable[..., Replica], pods: Pods, publish: Publish
) -> None:
    publish("one")
    service = replica()
    job = service.deploy(replicas=3).job
    service.wait_until(READY)
    _wait(lambda: len(pods.status(job).hosts) == 3)
    groups = [f"{group:04}" * (PREFIX_CHARS // 4) for group in range(12)]
    for group in groups:
        service.ask(*(f"{group} question {i}" for i in range(4)))
    seen = {host: _prompts(host) for host in pods.status(job).hosts}
    homes = {
        group: [host for host, prompts in seen.items() if any(group in text for text in prompts)] for group in groups
    }
    assert all(len(hosts) == 1 for hosts in homes.values())
    assert len({hosts[0] for hosts in homes.values()}) > 1

    dead = homes[groups[0]][0]
    pods.kill_pod(job, dead)
    again = [
        completion for group in groups for completion in service.ask(f"{group} once more")
    ]  # one at a time: no load
    assert not [completion.error for completion in again if completion.error]
    stayed = [group for group in groups if homes[group][0] != dead]
    assert all(any(f"{group} once more" in text for text in _prompts(homes[group][0])) for group in stayed)

    for host in pods.status(job).hosts:
        pods.kill_pod(job, host)
    threading.Timer(1.0, pods.start_pod, [job]).start()
    (came_back,) = service.ask("after all were gone")  # waits for the one that comes
    assert came_back.answer


def test_idle_engines_stop_and_wake_once(
    replica: Callable[..., Replica], pods: Pods, store: ObjectStore, publish: Publish
) -> None:
    publish("one")
    services = [replica(4), replica(4)]
    first = services[0].deploy(replicas=2)
    for service in services:
        service.wait_until(READY)
    assert services[0].ask("hello")[0].answer
    for service in services:
        service.endpoints.round()
    assert services[1].endpoints.get("e").state == READY  # used a moment ago, by the other
    time.sleep(4.2)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda service: service.endpoints.round(), services))
        assert services[0].endpoints.get("e").state == IDLE
        assert pods.cancelled == [first.job]
        answers = list(pool.map(lambda i: services[i % 2].ask(f"wake {i}")[0], range(4)))
    assert [answer.error for answer in answers] == [""] * 4
    assert [spec.id for spec in pods.submitted] == [first.job, f"{first.job[:-1]}2"]
    assert pods.submitted[1] == replace(pods.submitted[0], id=pods.submitted[1].id, command=pods.submitted[1].command)
    cost = costs.find(store, first.job)
    assert cost is not None
    assert (cost.kind, cost.tenant.team) == ("engine", "red")
    assert cost.gpu_seconds == pytest.approx(2 * (cost.ended_at - cost.started_at), rel=0.01)
    assert cost.money == pytest.approx(cost.gpu_seconds * 0.001)


def test_deploying_an_idle_endpoint_wakes_it_as_asked(
    replica: Callable[..., Replica], pods: Pods, publish: Publish
) -> None:
    publish("one")
    service = replica()
    service.deploy()
    service.wait_until(READY)
    time.sleep(1.2)
    service.endpoints.round()
    assert service.endpoints.get("e").state == IDLE
    assert service.deploy(replicas=2).state == EndpointState.ENDPOINT_STATE_STARTING
    assert [spec.replicas for spec in pods.submitted] == [1, 2]


def test_retiring_lets_work_in_flight_end(replica: Callable[..., Replica], pods: Pods, publish: Publish) -> None:
    """Also work of another replica of the service."""
    publish("slow", delay_s=1.5)
    mine, others = replica(6), replica(6)
    mine.deploy("slow")
    for service in (mine, others):
        service.wait_until(READY)
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(others.ask, "take your time")
        _wait(lambda: others.endpoints.uses.last(pods.submitted[0].id) > 0)
        retired = pool.submit(mine.endpoints.retire, "e")
        time.sleep(0.3)
        with pytest.raises(Unavailable, match="was retired"):
            others.ask("too late")
        assert not pods.cancelled
        assert asked.result(20)[0].answer
        _wait(lambda: bool(others.endpoints.uses.renew() or retired.done()))
    assert pods.cancelled == [pods.submitted[0].id]


def test_a_replica_that_died_at_work_is_not_waited_for_long(store: ObjectStore) -> None:
    dead, mine = (Uses(store, every_s=0.3, is_shared=True) for _ in range(2))
    with dead.using("job"):
        assert not mine.wait_until_quiet("job", 0.3)
        assert mine.wait_until_quiet("job", 5)


def test_an_engine_that_may_run_a_models_code_is_refused(
    replica: Callable[..., Replica], pods: Pods, publish: Publish
) -> None:
    publish("old", version="0.17.1")
    service = replica()
    service.deploy("old")
    failed = service.wait_until(EndpointState.ENDPOINT_STATE_FAILED)
    assert "CVE-2026-27893" in failed.error
    with pytest.raises(Unavailable, match=r"use 0\.18 or newer"):
        service.ask("hello")
    service.endpoints.round()
    assert pods.cancelled == [failed.job]


def _prompts(host: str) -> list[str]:
    with urllib.request.urlopen(f"http://{host}:{placement.POD_PORT}/requests", timeout=5) as answer:
        return [body["prompt"] for body in json.load(answer)]


def _wait(holds: Callable[[], bool], within_s: float = 30) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
