"""The chart by real helm on a real API server, its pods as processes: install, upgrade, rollback, uninstall.

The object store is a folder and the kubeconfig an administrator's: a process node has no volumes and no tokens
(test_rbac.py is about rights).
"""

import base64
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from lrm_safety import artefacts, tls
from lrm_safety.nouns import (
    Checkpoint,
    GetRunRequest,
    Lineage,
    ListPluginsRequest,
    Run,
    RunState,
    TrainRequest,
    WatchRunRequest,
)
from lrm_safety.settings import FIRST_PORT, SERVICES, Settings
from lrm_safety.store import open_store
from lrm_safety.v1.data_pb2_grpc import DataServiceStub
from lrm_safety.v1.runs_pb2_grpc import RunsStub
from lrm_safety.v1.trainer_pb2_grpc import TrainerServiceStub
from tests.chart.rendering import CHART, helm_program
from tests.cluster.conftest import Cluster, until
from tests.trainer.conftest import Bench, examples, publish_examples, tiny_folder

__all__ = ["tiny_folder"]  # a fixture
pytestmark = pytest.mark.skipif(not helm_program(), reason="no helm: make .venv/bin/helm")

RELEASE = "lrm-safety"
VALUES = {
    "defaults": {"resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}}},
    "services": {"judge": {"resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}}}},
    "autoscaling": {"enabled": False},
    "store": {"endpoint": "store.example.com:443", "secret": "store-keys"},
    "jobs": {"graceSeconds": 5},
    "pools": {"cpu": {"cpus": 1, "memoryGib": 4}},
    "quotas": [{"name": "filler", "priority": "filler", "hard": {"requests.nvidia.com/gpu": 4}}],
}
NAMESPACED = (
    *("configmaps", "secrets", "services", "serviceaccounts", "pods", "persistentvolumeclaims", "resourcequotas"),
    *("apps/deployments", "apps/statefulsets", "apps/replicasets", "batch/jobs", "networking.k8s.io/networkpolicies"),
    *(
        "rbac.authorization.k8s.io/roles",
        "rbac.authorization.k8s.io/rolebindings",
        "autoscaling/horizontalpodautoscalers",
    ),
)


@dataclass(frozen=True)
class Release:
    cluster: Cluster
    values: Path
    store: str

    def helm(self, command: str, *arguments: str) -> str:
        """Raises AssertionError with helm's words."""
        place = ["--kubeconfig", str(self.cluster.kubeconfig), "-n", self.cluster.namespace, "--timeout", "4m"]
        line = [str(helm_program()), command, RELEASE, *arguments, *place]
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr + self.pods_in_words()
        return done.stdout

    def install(self, command: str, *arguments: str) -> str:
        return self.helm(command, str(CHART), "-f", str(self.values), "--wait", *arguments)

    def objects(self, plural: str) -> list[dict[str, Any]]:
        return self.cluster.api.list(self.cluster.path(plural))

    def pods(self) -> dict[str, dict[str, Any]]:
        """component -> the pod of that service."""
        label = "app.kubernetes.io/component"
        found = [pod for pod in self.objects("pods") if pod["metadata"]["labels"].get(label) in SERVICES]
        alive = [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]
        assert len(alive) == len(SERVICES)
        return {pod["metadata"]["labels"][label]: pod for pod in alive}

    def address(self, service: str) -> str:
        return f"{self.pods()[service]['status']['podIP']}:{FIRST_PORT + SERVICES.index(service)}"

    def certificates(self) -> dict[str, str]:
        return {
            each["metadata"]["name"]: each["data"]["tls.crt"]
            for each in self.objects("secrets")
            if "tls.crt" in each.get("data", {})
        }

    def setting(self, name: str) -> str:
        path = self.cluster.path("configmaps", f"{RELEASE}-env")
        return str(self.cluster.api.ask("GET", path)["data"][name])

    def pods_in_words(self) -> str:
        """For whoever reads why it failed."""
        words = [
            f"{pod['metadata']['name']}: {each.get('state')} {each.get('lastState')}"
            for pod in self.objects("pods")
            for each in pod["status"].get("containerStatuses", [])
        ]
        return "\n" + "\n".join(words)


@pytest.fixture
def release(cluster: Cluster, tmp_path: Path) -> Iterator[Release]:
    """Not installed yet; whatever is left of it goes with its namespace."""
    node = cluster.node
    before = (node.env, node.own_addresses)
    node.env = {"KUBECONFIG": str(cluster.kubeconfig), "LRM_STORE": f"file://{tmp_path}/store"}
    node.own_addresses = True
    keys = {"LRM_S3_ACCESS_KEY": "any", "LRM_S3_SECRET_KEY": "any"}
    cluster.api.ask("POST", cluster.path("secrets"), {"metadata": {"name": "store-keys"}, "stringData": keys})
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump(VALUES))
    yield Release(cluster, values, node.env["LRM_STORE"])
    node.env, node.own_addresses = before


@pytest.fixture
def bench(release: Release, tmp_path: Path, tiny_folder: Path) -> Iterator[Bench]:
    """The release's store, with a checkpoint and a dataset to train on; trainings wait for a word."""
    settings = replace(Settings(), store=release.store)
    store = open_store(settings)
    base = artefacts.publish(store, "checkpoints", tiny_folder, Checkpoint(name="tiny", lineage=Lineage(origin="t")))
    publish_examples(store, tmp_path, examples())
    release.cluster.node.replaced = {"services.trainer.worker": "tests.cluster.scripted_worker"}
    yield Bench(store, settings, base.name, "sums")
    release.cluster.node.replaced = {}


def test_a_life_of_a_release(release: Release, bench: Bench, tmp_path: Path) -> None:
    before = _left(release)
    notes = release.install("install")
    assert f"helm test {RELEASE}" in notes
    first, certificates = release.pods(), release.certificates()
    assert set(certificates) == {f"{RELEASE}-tls-{each}" for each in (*SERVICES, "ca", "client")}
    assert release.objects("batch/jobs") == [], "hooks that went well are gone"
    _refuses_who_has_no_certificate(release)

    run = _train(release, bench, tmp_path)
    release.install("upgrade", "--set", "logLevel=DEBUG")
    assert release.setting("LRM_LOG_LEVEL") == "DEBUG"
    uids = [{pod["metadata"]["uid"] for pod in pods.values()} for pods in (first, release.pods())]
    assert not uids[0] & uids[1]
    assert release.certificates() == certificates, "an upgrade keeps what is valid"
    bench.store.write("test/go", b"")
    with _channel(release, "trainer", tmp_path) as channel:
        *_, done = RunsStub(channel).WatchRun(WatchRunRequest(id=run.id), timeout=120)
    assert (done.state, done.error) == (RunState.RUN_STATE_DONE, "")
    assert done.epoch > run.epoch, "the new trainer owns it"
    assert [job["metadata"]["name"] for job in release.objects("batch/jobs")] == [f"{run.id}-1"], (
        "and began nothing anew"
    )

    release.helm("rollback", "--wait")
    assert release.setting("LRM_LOG_LEVEL") == "INFO"
    bench.store.delete("test/go")
    _train(release, bench, tmp_path, epochs=3)
    release.helm("uninstall", "--wait")
    keepers = {("secrets", name) for name in certificates}
    until(lambda: _left(release) - before, lambda left: left == keepers)
    kept = f"app.kubernetes.io/instance in ({RELEASE})"  # as the chart's notes say
    release.cluster.api.ask("DELETE", release.cluster.path("secrets"), labelSelector=kept)
    assert _left(release) == before


def _train(release: Release, bench: Bench, folder: Path, **changes: object) -> Run:
    """A training that goes on until the store holds test/go."""
    with _channel(release, "trainer", folder) as channel:
        run = TrainerServiceStub(channel).Train(TrainRequest(spec=bench.spec(**changes)), timeout=30)
        ask = GetRunRequest(id=run.id)
        until(lambda: RunsStub(channel).GetRun(ask, timeout=30), lambda seen: seen.progress.stage == "training")
        return RunsStub(channel).GetRun(ask, timeout=30)


@contextmanager
def _channel(release: Release, service: str, folder: Path) -> Iterator[grpc.Channel]:
    """To the service's pod, with the certificate that the release made for clients."""
    secret = release.cluster.api.ask("GET", release.cluster.path("secrets", f"{RELEASE}-tls-client"))
    certificates = folder / "tls"
    certificates.mkdir(exist_ok=True)
    for name, data in secret["data"].items():
        (certificates / name).write_bytes(base64.b64decode(data))
    settings, own_name = replace(Settings(), tls_dir=certificates), [("grpc.ssl_target_name_override", "localhost")]
    with tls.open_channel(settings, release.address(service), own_name) as channel:
        yield channel


def _refuses_who_has_no_certificate(release: Release) -> None:
    with grpc.insecure_channel(release.address("data")) as plain, pytest.raises(grpc.RpcError) as refused:
        DataServiceStub(plain).ListPlugins(ListPluginsRequest(kind="sources"), timeout=5)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def _left(release: Release) -> set[tuple[str, str]]:
    """(plural, name) of everything in the namespace, and of what is the cluster's and the release's."""
    found = {(plural, each["metadata"]["name"]) for plural in NAMESPACED for each in release.objects(plural)}
    ours = f"app.kubernetes.io/instance={RELEASE}"
    classes = release.cluster.api.list("/apis/scheduling.k8s.io/v1/priorityclasses", labelSelector=ours)
    return found | {("priorityclasses", each["metadata"]["name"]) for each in classes}
