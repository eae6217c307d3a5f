"""The bench service in a cluster: killed and stopped, another one goes on; engines that died are deployed again."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lrm_safety import adoption, artefacts, costs, outages, serving
from lrm_safety.clients import Clients, rpc
from lrm_safety.errors import Unavailable
from lrm_safety.jobs import open_runner
from lrm_safety.nouns import (
    BenchSpec,
    Checkpoint,
    DeployRequest,
    Endpoint,
    EndpointState,
    EngineSpec,
    GetEndpointRequest,
    Run,
    RunState,
    ScoreItem,
    Verdict,
)
from lrm_safety.pipeline import watch
from lrm_safety.settings import Settings, process_env
from lrm_safety.store import ObjectStore
from services.bench import service
from services.inference import service as inference_service
from tests.bench.conftest import Stage, harm_spec
from tests.bench.scripted import ScriptedInference, ScriptedJudge, rules
from tests.bench.test_evaluate import wait_for
from tests.conftest import free_ports
from tests.fakes.engine_process import install
from tests.fakes.scripted_engine import ScriptedEngine

ROOT = Path(__file__).resolve().parents[2]
QUICK = "from lrm_safety import adoption; adoption.EVERY_S = 0.2"
MAIN = "import sys; from services.__main__ import main; sys.exit(main(['bench']))"
DONE = RunState.RUN_STATE_DONE
SAMPLES = 400


class BenchProcess:
    """`python -m services bench` as a cluster runs it, but quick to look for orphans."""

    def __init__(self, settings: Settings) -> None:
        (port,) = free_ports(1)
        self.settings = replace(
            settings, jobs="cluster", team="red", addresses={**settings.addresses, "bench": f"127.0.0.1:{port}"}
        )
        self._clients: list[Clients] = []

    def start(self) -> "BenchProcess":
        env = process_env(self.settings.to_env())
        self._process = subprocess.Popen([sys.executable, "-c", f"{QUICK}; {MAIN}"], env=env, cwd=ROOT)
        self._clients.append(Clients(self.settings))
        return self

    def ask(self, spec: BenchSpec) -> Run:
        stage = Stage(self._clients[-1], None, None, None)  # type: ignore[arg-type]
        deadline = time.monotonic() + 60
        while True:
            try:
                return stage.start(spec)
            except Unavailable:
                assert time.monotonic() < deadline, "the bench process did not come up"
                time.sleep(0.1)

    def end(self, number: signal.Signals) -> int:
        self._process.send_signal(number)
        return self._process.wait(20)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for clients in self._clients:
            clients.close()


@pytest.fixture
def slow_engine() -> Iterator[ScriptedEngine]:
    engine = ScriptedEngine()
    engine.places, engine.delay_s = 8, lambda messages: 0.1
    yield engine
    engine.stop()


@pytest.fixture
def two(
    settings: Settings, serve: Callable[..., serving.Server], clients: Clients, slow_engine: ScriptedEngine
) -> Iterator[tuple[BenchProcess, BenchProcess]]:
    """Two bench processes, not started, over one store, before a real inference service and a slow engine."""
    serve("inference", inference_service.register)
    serve("judge", ScriptedJudge().register)
    rpc(clients.inference.Deploy, DeployRequest(name="base", url=slow_engine.url))
    both = BenchProcess(settings), BenchProcess(settings)
    yield both
    for each in both:
        each.close()


def test_killed_then_stopped_another_goes_on_each_time(
    two: tuple[BenchProcess, BenchProcess], store: ObjectStore, slow_engine: ScriptedEngine, harm_file: Callable
) -> None:
    first, second = two
    first.start(), second.start()
    spec = harm_spec(harm_file(SAMPLES), limit=SAMPLES)
    run = first.ask(spec)
    look = Stage(second._clients[-1], store, None, None)  # type: ignore[arg-type]

    def more_than(count: int) -> Callable[[], bool]:
        return lambda: len(look.committed(run.id)) > count

    wait_for(more_than(0))
    first.end(signal.SIGKILL)
    before = len(look.committed(run.id))
    wait_for(more_than(before))
    assert look.state(run).epoch == 2, "nobody asked again"
    slow_engine.delay_s = lambda messages: 0.5  # a busy machine starts a process in as long as this run would take
    first.start().ask(spec)
    wait_for(more_than(before + 20))
    assert second.end(signal.SIGTERM) == 0
    slow_engine.delay_s = lambda messages: 0.1
    handed = look.committed(run.id)
    assert before < len(handed) < SAMPLES
    look = Stage(first._clients[-1], store, None, None)  # type: ignore[arg-type]
    wait_for(lambda: look.state(run).epoch == 3, within_s=5)
    wait_for(lambda: look.state(run).state == DONE, within_s=60)
    keys = [record.key for record in look.committed(run.id)]
    assert len(keys) == len(set(keys)) == SAMPLES
    cost = costs.find(store, run.id)
    assert cost is not None and (cost.verdicts, cost.tenant.team) == (SAMPLES, "red")
    words = sum(record.completion.usage.completion_tokens for record in look.committed(run.id))
    assert 0 < cost.tokens <= words
    assert len(slow_engine.requests) < SAMPLES + 100, "what was generated is asked for again"


@pytest.fixture
def cluster(
    settings: Settings, store: ObjectStore, clients: Clients, serve: Callable, monkeypatch: pytest.MonkeyPatch
) -> Stage:
    """The bench service of a cluster, in this process, between scripted neighbours."""
    monkeypatch.setattr(adoption, "EVERY_S", 0.2)
    monkeypatch.setattr(outages, "PAUSE_S", 0.2)
    stage = Stage(clients, store, ScriptedInference(), ScriptedJudge())
    serve("judge", stage.judge.register)
    return stage


def test_an_engine_that_died_is_deployed_again_as_it_was(
    cluster: Stage, serve: Callable, settings: Settings, tmp_path: Path, harm_file: Callable
) -> None:
    """The real inference service, with the scripted engine as a real job that is killed in the middle.

    800 samples are more than may wait for judges, so the engine has work left.
    """
    changed = replace(settings, vllm_python=install(tmp_path / "venv" / "bin"))
    serve("inference", inference_service.register, vllm_python=changed.vllm_python)
    serve("bench", service.register, jobs="cluster")
    cluster.judge.judges["refusal"] = slow_rules
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"max_position_embeddings": 2048, "eos_token_id": 2}')
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<|end|>"}')
    (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    (folder / "model.safetensors").write_text("weights")
    artefacts.publish(cluster.store, "checkpoints", folder, Checkpoint(name="tiny"))
    asked = DeployRequest(name="base", checkpoint="tiny", engine=EngineSpec(engine="vllm", max_sequences=4))
    rpc(cluster.clients.inference.Deploy, asked, timeout_s=60)
    first = ready(cluster)
    run = cluster.start(harm_spec(harm_file(800)))
    wait_for(lambda: len(cluster.committed(run.id)) > 0)
    open_runner(changed).cancel(first.job, grace_s=0)
    wait_for(lambda: cluster.state(run).state == DONE, within_s=60)
    second = ready(cluster)
    assert second.job != first.job and second.spec.max_sequences == 4
    assert len(cluster.records(run.id)) == 800
    rpc(cluster.clients.inference.Retire, inference_service.RetireRequest(name="base"))


def slow_rules(item: ScoreItem) -> Verdict:
    time.sleep(0.05)
    return rules(item)


def ready(stage: Stage) -> Endpoint:
    def look() -> Endpoint:
        return rpc(stage.clients.inference.GetEndpoint, GetEndpointRequest(name="base"))

    wait_for(lambda: look().state == EndpointState.ENDPOINT_STATE_READY, within_s=60)
    return look()


def test_a_judge_that_is_away_is_waited_for(cluster: Stage, serve: Callable, harm_file: Callable) -> None:
    serve("inference", cluster.inference.register)
    serve("bench", service.register, jobs="cluster")
    cluster.judge.is_down = True
    run = cluster.start(harm_spec(harm_file(10)))
    wait_for(lambda: "an outage" in cluster.state(run).waiting)
    cluster.judge.is_down = False
    wait_for(lambda: cluster.state(run).state == DONE)
    assert cluster.state(run).epoch == 1


def test_following_survives_a_service_that_restarts(cluster: Stage, serve: Callable, harm_file: Callable) -> None:
    serve("inference", cluster.inference.register)
    cluster.inference.delay_s = 0.05
    server = serve("bench", service.register, jobs="cluster")
    run = cluster.start(harm_spec(harm_file(400)))
    seen: list[str] = []

    def show(run: Run) -> None:
        seen.append(run.waiting)
        if run.progress.done > 20 and len(servers) == 1:
            server.stop(0).wait()
            servers.append(serve("bench", service.register, jobs="cluster"))

    servers = [server]
    last = watch(cluster.clients, "bench", run, show)
    assert last.state == DONE and len(servers) == 2
    server.stop(0)
    servers[1].stop(0).wait()
    cluster.clients.patience_s = lambda service: 1.0  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        watch(cluster.clients, "bench", Run(id=run.id), lambda run: seen.append(run.waiting))
    assert "bench is away, trying for" in seen[-1]
