"""The chart by real helm on a real API server, its pods as processes: install, upgrade, rollback, uninstall.

The object store is a folder and the kubeconfig an administrator's: a process node has no volumes and no tokens
(test_rbac.py is about rights).
"""

import base64
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from lrm_safety import tls
from lrm_safety.nouns import ListPluginsRequest
from lrm_safety.settings import SERVICES, Settings
from lrm_safety.v1.data_pb2_grpc import DataServiceStub
from tests.chart.rendering import CHART, helm_program
from tests.cluster.conftest import Cluster, until

RELEASE = "lrm-safety"
VALUES = {
    "defaults": {"resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}}},
    "services": {"judge": {"resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}}}},
    "autoscaling": {"enabled": False},
    "store": {"endpoint": "store.example.com:443", "secret": "store-keys"},
    "jobs": {"graceSeconds": 5},
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

    def helm(self, command: str, *arguments: str) -> str:
        """Raises AssertionError with helm's words."""
        place = ["--kubeconfig", str(self.cluster.kubeconfig), "-n", self.cluster.namespace, "--timeout", "4m"]
        line = [helm_program() or "helm", command, RELEASE, *arguments, *place]
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
    yield Release(cluster, values)
    node.env, node.own_addresses = before


def test_a_life_of_a_release(release: Release, tmp_path: Path) -> None:
    before = _left(release)
    notes = release.install("install")
    assert f"helm test {RELEASE}" in notes
    _all_serve(release, tmp_path)
    first, certificates = release.pods(), release.certificates()
    assert set(certificates) == {f"{RELEASE}-tls-{each}" for each in (*SERVICES, "ca", "client")}
    assert release.objects("batch/jobs") == [], "hooks that went well are gone"

    training = _start_job(release.cluster)
    release.install("upgrade", "--set", "logLevel=DEBUG")
    second = release.pods()
    assert release.setting("LRM_LOG_LEVEL") == "DEBUG"
    assert {pod["metadata"]["uid"] for pod in first.values()} & {
        pod["metadata"]["uid"] for pod in second.values()
    } == set()
    assert release.certificates() == certificates, "an upgrade keeps what is valid"
    _all_serve(release, tmp_path)

    release.helm("rollback", "--wait")
    assert release.setting("LRM_LOG_LEVEL") == "INFO"
    _all_serve(release, tmp_path)
    (pod,) = [each for each in release.objects("pods") if each["metadata"]["labels"].get("job-name") == training]
    assert pod["status"]["phase"] == "Running", "neither touches what runs"

    release.helm("uninstall", "--wait")
    keepers = {("secrets", name) for name in certificates}
    until(lambda: _left(release) - before, lambda left: left == keepers)
    kept = f"app.kubernetes.io/instance in ({RELEASE})"  # as the chart's notes say
    release.cluster.api.ask("DELETE", release.cluster.path("secrets"), labelSelector=kept)
    assert _left(release) == before


def _all_serve(release: Release, folder: Path) -> None:
    """Each by its own certificate, and nobody by none."""
    secret = release.cluster.api.ask("GET", release.cluster.path("secrets", f"{RELEASE}-tls-client"))
    certificates = folder / "tls"
    certificates.mkdir(exist_ok=True)
    for name, data in secret["data"].items():
        (certificates / name).write_bytes(base64.b64decode(data))
    settings, own_name = replace(Settings(), tls_dir=certificates), [("grpc.ssl_target_name_override", "localhost")]
    host = release.pods()["data"]["status"]["podIP"]
    with tls.open_channel(settings, f"{host}:50051", own_name) as channel:
        assert DataServiceStub(channel).ListPlugins(ListPluginsRequest(kind="sources"), timeout=10).plugins
    with grpc.insecure_channel(f"{host}:50051") as plain, pytest.raises(grpc.RpcError) as refused:
        DataServiceStub(plain).ListPlugins(ListPluginsRequest(kind="sources"), timeout=5)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def _start_job(cluster: Cluster) -> str:
    """As a service makes it, as far as the chart is concerned; returns its name when it runs."""
    labels = {"app.kubernetes.io/instance": RELEASE, "app.kubernetes.io/managed-by": "lrm-safety"}
    container = {"name": "job", "image": "x", "command": ["sleep", "600"]}
    pod = {"restartPolicy": "Never", "containers": [container], "serviceAccountName": f"{RELEASE}-job"}
    template = {"metadata": {"labels": labels}, "spec": {**pod, "terminationGracePeriodSeconds": 5}}
    job = {"metadata": {"name": "training-1", "labels": labels}, "spec": {"template": template}}
    cluster.api.ask("POST", cluster.path("batch/jobs"), job)
    until(lambda: cluster.api.ask("GET", cluster.path("batch/jobs", "training-1"))["status"].get("active"))
    return "training-1"


def _left(release: Release) -> set[tuple[str, str]]:
    """(plural, name) of everything in the namespace, and of what is the cluster's and the release's."""
    found = {(plural, each["metadata"]["name"]) for plural in NAMESPACED for each in release.objects(plural)}
    ours = f"app.kubernetes.io/instance={RELEASE}"
    classes = release.cluster.api.list("/apis/scheduling.k8s.io/v1/priorityclasses", labelSelector=ours)
    return found | {("priorityclasses", each["metadata"]["name"]) for each in classes}
