"""Clusters to test against: the real one (of KUBECONFIG, else started here) and the fake one, each with a process node.

def test_chart(cluster):          # a new namespace of the real cluster; skips where there is none
    helm("--kubeconfig", cluster.kubeconfig, "-n", cluster.namespace, ...)
def test_runner(either):          # twice: fake and real
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import pytest
import yaml

from lrm_safety.settings import Settings
from tests.cluster import control_plane
from tests.cluster.control_plane import ControlPlane
from tests.fakes.api_client import Api, Refusal
from tests.fakes.kubernetes_api import KubernetesApi
from tests.fakes.process_node import ProcessNode
from tests.jobs.conftest import Machine, working

NODE = "lrm-process-node"
POOL_LABEL = "lrm-safety/test-node"
PATIENCE_S = 60.0
numbers = count(1)


@dataclass(frozen=True)
class Cluster:
    """A namespace of its own in a cluster with one process node."""

    kubeconfig: Path  # of an administrator
    namespace: str
    api: Api  # the API server, asked as that administrator
    node: ProcessNode
    fake: KubernetesApi | None = None

    def path(self, plural: str, name: str = "") -> str:
        """Address of such objects in the namespace, e.g. `pods`, `batch/jobs`, `apps/deployments`."""
        group, _, kind = plural.rpartition("/")
        root = f"/apis/{group}/v1" if group else "/api/v1"
        return f"{root}/namespaces/{self.namespace}/{kind}" + (f"/{name}" if name else "")

    def settings(self, settings: Settings, folder: Path, **changes: object) -> Settings:
        """Of a service whose jobs run in this namespace."""
        pool = {"cpus": os.cpu_count(), "memory_gib": 16, "scratch_gib": 1, "node_selector": {POOL_LABEL: "yes"}}
        config = {
            "namespace": self.namespace,
            "release": "test",
            "images": {role: {"image": f"lrm/{role}:test"} for role in ("service", "worker", "engine")},
            "service_account": "default",
            "training_pool": "cpu",
            "engine_pool": "cpu",
            "pools": {"cpu": pool, "gpu": {**pool, "gpus": 1}},
            "grace_s": 10,
        }
        (folder / "cluster.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        kubeconfig = str(changes.pop("kubeconfig", self.kubeconfig))
        reached = {"jobs": "cluster", "cluster": folder / "cluster.yaml", "kubeconfig": kubeconfig}
        return replace(settings, **{**reached, **changes})


@pytest.fixture(scope="session")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane | None]:
    """The control plane that was started for these tests; None when KUBECONFIG names a cluster."""
    if os.environ.get("KUBECONFIG"):
        yield None
        return
    if reason := control_plane.missing():
        pytest.skip(reason)
    made = ControlPlane(tmp_path_factory.mktemp("control-plane"))
    yield made
    made.stop()


@pytest.fixture(scope="session")
def real_node(control: ControlPlane | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessNode]:
    kubeconfig = control.kubeconfig if control else Path(os.environ["KUBECONFIG"])
    made = _node(kubeconfig, tmp_path_factory.mktemp("real-node"))
    yield made
    made.stop()


@pytest.fixture
def cluster(real_node: ProcessNode) -> Iterator[Cluster]:
    """A new namespace in the real cluster; deleted, with all in it, when the test is over."""
    yield from _namespace(real_node, None)


@pytest.fixture
def fake_cluster(tmp_path: Path) -> Iterator[Cluster]:
    with KubernetesApi() as fake:
        node = _node(fake.kubeconfig(tmp_path), tmp_path / "fake-node")
        yield from _namespace(node, fake)
        node.stop()


@pytest.fixture(params=["fake_cluster", "cluster"], ids=["fake", "real"])
def either(request: pytest.FixtureRequest) -> Cluster:
    made: Cluster = request.getfixturevalue(request.param)
    return made


@pytest.fixture
def machine(either: Cluster, settings: Settings, tmp_path: Path) -> Iterator[Machine]:
    """A runner over it, as the suite of all runners has it."""
    yield from working(either.settings(settings, tmp_path))


def until(ask: Callable[[], object], is_so: Callable[[object], object] = bool) -> object:
    """Asks until it is so; the answer."""
    end = time.monotonic() + PATIENCE_S
    while not is_so(last := ask()):
        assert time.monotonic() < end, f"after {PATIENCE_S} s still {last!r}"
        time.sleep(0.1)
    return last


def _node(kubeconfig: Path, folder: Path) -> ProcessNode:
    made = ProcessNode(kubeconfig, folder, NODE, labels={POOL_LABEL: "yes"})
    until(lambda: not (made.api.ask("GET", f"/api/v1/nodes/{NODE}")["spec"].get("taints")))  # they say it is not ready
    return made


def _namespace(node: ProcessNode, fake: KubernetesApi | None) -> Iterator[Cluster]:
    name = f"lrm-test-{os.getpid()}-{next(numbers)}"
    node.api.ask("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    made = Cluster(node.kubeconfig, name, node.api, node, fake)
    until(lambda: made.api.list(made.path("serviceaccounts")))  # pods need its default one
    yield made
    with suppress(Refusal):
        made.api.ask("DELETE", f"/api/v1/namespaces/{name}")
