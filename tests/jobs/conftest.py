"""Every runner under the same questions. The cluster is a fake API server and a node whose pods are processes here."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import pytest
import yaml

from lrm_safety.errors import NotFound
from lrm_safety.jobs import JobRunner, JobSpec, JobState, JobStatus, open_runner, pod_template
from lrm_safety.jobs.cluster import ClusterRunner
from lrm_safety.settings import Settings
from tests.fakes.kubernetes_api import KubernetesApi
from tests.fakes.process_node import ProcessNode

numbers = count()
PATIENCE_S = 60.0  # this may be a very busy machine


@dataclass
class Machine:
    """A runner with nothing on it, and what a test says often."""

    settings: Settings
    runner: JobRunner = field(init=False)
    submitted: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.runner = open_runner(self.settings)

    def spec(self, command: list[str] | str, **wishes: object) -> JobSpec:
        """A job of a Python program (str) or a command, with an id of its own; 0 cpus unless it wishes for some."""
        if isinstance(command, str):
            command = [sys.executable, "-S", "-c", command]
        spec = JobSpec(**{"id": f"job-{next(numbers)}", "command": command, "cpus": 0, "memory_gib": 0, **wishes})
        self.submitted.append(spec.id)
        return spec

    def submit(self, command: list[str] | str, **wishes: object) -> str:
        return self.runner.submit(self.spec(command, **wishes)).id

    def wait(self, job_id: str, *states: JobState) -> JobStatus:
        """Until the job is in one of the states (without any: until it has ended)."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            status = self.runner.status(job_id)
            if status.state in states or (not states and status.has_ended):
                return status
            time.sleep(0.05)
        raise AssertionError(f"after {PATIENCE_S} s still {self.runner.status(job_id)}")

    def wait_until_it_waits(self, job_id: str) -> JobStatus:
        """Until the job is queued and says for what."""
        wait_until(lambda: self.runner.status(job_id).waiting)
        status = self.runner.status(job_id)
        assert status.state is JobState.QUEUED
        return status

    def wait_for_log(self, job_id: str, text: str) -> str:
        wait_until(lambda: text in self.runner.logs(job_id))
        return self.runner.logs(job_id)


CLUSTER = {
    "namespace": "default",
    "release": "test",
    "images": {role: {"image": f"lrm/{role}:test"} for role in ("service", "worker", "engine")},
    "service_account": "default",
    "training_pool": "cpu",
    "engine_pool": "cpu",
    "pools": {
        "cpu": {"cpus": os.cpu_count(), "memory_gib": 16, "scratch_gib": 1},
        "gpu": {"cpus": 1, "memory_gib": 1, "gpus": 1, "scratch_gib": 1, "gpu_hour_price": 2.5},
    },
}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[KubernetesApi]:
    with KubernetesApi() as made:
        yield made


@pytest.fixture
def node(api: KubernetesApi, tmp_path: Path) -> Iterator[ProcessNode]:
    made = ProcessNode(api.kubeconfig(tmp_path), tmp_path / "node")
    yield made
    made.stop()


@pytest.fixture
def cluster(
    settings: Settings, api: KubernetesApi, node: ProcessNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """A namespace of an empty cluster with one node."""
    monkeypatch.setattr(pod_template, "DRAIN_S", 0)
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(CLUSTER), encoding="utf-8")
    reached = {"jobs": "cluster", "cluster": tmp_path / "cluster.yaml", "kubeconfig": str(api.kubeconfig(tmp_path))}
    return replace(settings, **reached)


def working(settings: Settings) -> Iterator[Machine]:
    made = Machine(settings)
    yield made
    for job_id in made.submitted:
        with suppress(NotFound):  # refused at submit
            made.runner.cancel(job_id, grace_s=0)
    if isinstance(made.runner, ClusterRunner):
        made.runner.close()


@pytest.fixture(params=["settings", "cluster"], ids=["local", "cluster"])
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    yield from working(request.getfixturevalue(request.param))


def wait_until(is_so: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < until, f"not so after {PATIENCE_S} s"
        time.sleep(0.05)
