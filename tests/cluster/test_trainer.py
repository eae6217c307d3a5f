"""The trainer with LRM_JOBS=cluster: trainings are Jobs that it makes, watches, cancels, replaces and finds again."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from lrm_safety import artefacts, serving
from lrm_safety.clients import Clients, rpc, rpc_stream
from lrm_safety.errors import Unavailable
from lrm_safety.jobs.manifests import COST_ANNOTATION
from lrm_safety.nouns import (
    CancelRunRequest,
    Checkpoint,
    GetCheckpointRequest,
    GetRunRequest,
    Lineage,
    Run,
    RunState,
    TrainRequest,
    WatchRunRequest,
    reference,
)
from lrm_safety.settings import Settings, process_env
from lrm_safety.store import open_store
from services.trainer import service, stake
from services.trainer.resume import ResumePoints
from tests.cluster.conftest import Cluster, until
from tests.cluster.scripted_worker import DIGEST
from tests.conftest import free_ports
from tests.fakes.api_client import Json
from tests.trainer.conftest import Bench, examples, publish_examples, tiny_folder

__all__ = ["tiny_folder"]
SCRIPTED = {"services.trainer.worker": "tests.cluster.scripted_worker"}


@dataclass
class Trainer:
    """A trainer's settings and a client of it, with what a test asks often."""

    bench: Bench
    cluster: Cluster
    clients: Clients

    def train(self, **changes: object) -> Run:
        return rpc(self.clients.trainer.Train, TrainRequest(spec=self.bench.spec(**changes)))

    def run(self, run: Run) -> Run:
        return rpc(self.clients.runs("trainer").GetRun, GetRunRequest(id=run.id))

    def wait_for_stage(self, run: Run, stage: str = "training") -> Run:
        until(lambda: self.run(run), lambda seen: seen.progress.stage == stage)
        return self.run(run)

    def wait(self, run: Run) -> Run:
        *_, last = rpc_stream(self.clients.runs("trainer").WatchRun, WatchRunRequest(id=run.id), 240)
        return last

    def say(self, word: str) -> None:
        self.bench.store.write(f"test/{word}", b"")

    def jobs(self) -> list[Json]:
        return self.cluster.api.list(self.cluster.path("batch/jobs"))

    def names(self) -> list[str]:
        return [job["metadata"]["name"] for job in self.jobs()]


def trainer_of(cluster: Cluster, settings: Settings, folder: Path, weights: Path) -> Iterator[Trainer]:
    settings = cluster.settings(settings, folder)
    store = open_store(settings)
    base = artefacts.publish(store, "checkpoints", weights, Checkpoint(name="tiny", lineage=Lineage(origin="t")))
    publish_examples(store, folder, examples())
    clients = Clients(settings)
    cluster.node.replaced = SCRIPTED
    yield Trainer(Bench(store, settings, base.name, "sums"), cluster, clients)
    cluster.node.replaced = {}
    clients.close()


@pytest.fixture
def trainer(either: Cluster, settings: Settings, tmp_path: Path, tiny_folder: Path) -> Iterator[Trainer]:
    yield from trainer_of(either, settings, tmp_path, tiny_folder)


@pytest.fixture
def served(trainer: Trainer) -> Iterator[Trainer]:
    server = serving.start("trainer", service.register, trainer.bench.settings)
    yield trainer
    server.stop(0).wait()


def process(settings: Settings) -> subprocess.Popen[bytes]:
    """The trainer as its pod runs it."""
    env = process_env({**settings.to_env(), "LRM_METRICS_PORT": "0"})
    return subprocess.Popen([sys.executable, "-m", "services", "trainer"], env=env)


def test_a_training_is_a_job_that_is_watched_to_its_end(served: Trainer):
    run = served.train()
    seen = served.wait_for_stage(run)
    assert (seen.progress.done, seen.progress.total) == (1, 2)
    [job] = served.jobs()
    labels = job["metadata"]["labels"]
    assert (labels["lrm-safety/run"], labels["lrm-safety/kind"]) == (run.id, "training")
    assert served.train().epoch == run.epoch  # asked twice: the same
    served.say("go")
    done = served.wait(run)
    assert (done.state, done.error, done.result) == (RunState.RUN_STATE_DONE, "", reference("tuned", DIGEST))
    assert served.names() == [f"{run.id}-1"]
    assert b"attempt 1 trains" in served.bench.store.read(f"jobs/{run.id}-1/log")


def test_its_pods_say_what_is_lost_with_them(served: Trainer, monkeypatch: pytest.MonkeyPatch):
    """More from step to step, nothing after a resume point."""
    monkeypatch.setattr(stake, "EVERY_S", 0.2)
    run = served.train()
    served.wait_for_stage(run)

    def cost() -> int:
        [pod] = served.cluster.api.list(served.cluster.path("pods"))
        return int((pod["metadata"].get("annotations") or {}).get(COST_ANNOTATION, -1))

    served.say("step")
    until(cost, lambda cost: cost > 0)
    points = ResumePoints(served.bench.store, run.id)
    points.write_share(2, 0, {})
    points.complete(2, processes=1, keep=1, is_given_up=lambda: False)
    until(cost, lambda cost: cost == 0)
    served.say("go")
    assert served.wait(run).state == RunState.RUN_STATE_DONE


def test_cancel_ends_the_job(served: Trainer):
    run = served.train()
    served.wait_for_stage(run)
    rpc(served.clients.runs("trainer").CancelRun, CancelRunRequest(id=run.id))
    assert served.wait(run).state == RunState.RUN_STATE_CANCELLED
    until(lambda: not served.names() and not served.cluster.api.list(served.cluster.path("pods")))


def test_an_error_of_the_worker_is_the_runs(served: Trainer):
    run = served.train()
    served.wait_for_stage(run)
    served.say("fail")
    ended = served.wait(run)
    assert ended.state == RunState.RUN_STATE_FAILED
    assert "no rows left" in ended.error
    assert served.names() == [f"{run.id}-1"]


def test_a_killed_job_is_replaced_by_the_next_attempt(served: Trainer):
    run = served.train()
    served.wait_for_stage(run)
    [pod] = served.cluster.api.list(served.cluster.path("pods"))
    served.cluster.node.oom_kill(served.cluster.namespace, pod["metadata"]["name"])
    until(lambda: f"{run.id}-2" in served.names())
    served.say("go")
    assert served.wait(run).state == RunState.RUN_STATE_DONE
    assert served.names() == [f"{run.id}-1", f"{run.id}-2"]


def test_a_job_outlives_its_trainer_and_the_next_one_adopts_it_unasked(trainer: Trainer):
    """kill -9 of the service with a job running; of two that start, one takes the run, finds its job, ends it well."""
    first = process(trainer.bench.settings)
    try:
        run = until(lambda: _or_none(trainer.train))
        assert isinstance(run, Run)
        trainer.wait_for_stage(run)
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    settings = trainer.bench.settings
    elsewhere = {**settings.addresses, "trainer": f"127.0.0.1:{free_ports(1)[0]}"}
    heirs = [process(settings), process(replace(settings, addresses=elsewhere))]
    try:
        until(lambda: _or_none(lambda: trainer.run(run)), lambda seen: isinstance(seen, Run) and seen.epoch == 2)
        trainer.say("go")
        done = trainer.wait(run)
    finally:
        for heir in heirs:
            heir.terminate()
        for heir in heirs:
            heir.wait()
    assert (done.state, done.epoch) == (RunState.RUN_STATE_DONE, 2)
    assert len(list(trainer.bench.store.list(f"runs/{run.id}/epochs/"))) == 2  # the other heir claimed nothing
    assert trainer.names() == [f"{run.id}-1"]


def test_two_trainers_asked_at_once_make_one_job(served: Trainer):
    """The race for a run has one owner, and one Job."""
    [port] = free_ports(1)
    settings = served.bench.settings
    other = replace(settings, addresses={**settings.addresses, "trainer": f"127.0.0.1:{port}"})
    server, clients = serving.start("trainer", service.register, other), Clients(other)
    try:
        with ThreadPoolExecutor(2) as pool:
            both = (served, Trainer(served.bench, served.cluster, clients))
            runs = list(pool.map(Trainer.train, both))
        assert len({run.id for run in runs}) == 1
        served.wait_for_stage(runs[0])
        served.say("go")
        done = served.wait(runs[0])
    finally:
        clients.close()
        server.stop(0).wait()
    assert (done.state, done.epoch) == (RunState.RUN_STATE_DONE, 1)
    assert served.names() == [f"{done.id}-1"]


def test_a_real_training_in_a_real_cluster(cluster: Cluster, settings: Settings, tmp_path: Path, tiny_folder: Path):
    """The worker itself, torch and DeepSpeed, on a tiny random model: from Train to a checkpoint with its lineage."""
    for trainer in trainer_of(cluster, settings, tmp_path, tiny_folder):
        cluster.node.replaced = {}
        server = serving.start("trainer", service.register, trainer.bench.settings)
        done = trainer.wait(trainer.train(epochs=1))
        made = rpc(trainer.clients.trainer.GetCheckpoint, GetCheckpointRequest(checkpoint="tuned"))
        server.stop(0).wait()
        assert (done.state, done.error) == (RunState.RUN_STATE_DONE, "")
        assert made.lineage.base.startswith("tiny@")


def _or_none(ask: Callable[[], Run]) -> Run | None:
    """None while the service is not there yet."""
    try:
        return ask()
    except Unavailable:
        return None
