"""`python -m services.leave` over the fake API server: what a release ran ends, with its grace; nobody else's does."""

import subprocess
import sys
from pathlib import Path

import pytest

from lrm_safety.errors import Unavailable
from lrm_safety.jobs.kube import Kube
from lrm_safety.settings import Settings, process_env
from services.leave import end_all
from tests.fakes.kubernetes_api import KubernetesApi
from tests.fakes.process_node import ProcessNode

NAMESPACE = "default"
PATIENT = (
    "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: (print('asked'), sys.exit(0)))\ntime.sleep(300)"
)


def labels(release: str, **more: str) -> dict[str, str]:
    return {"app.kubernetes.io/instance": release, **{f"app.kubernetes.io/{key}": value for key, value in more.items()}}


def start_job(node: ProcessNode, name: str, release: str) -> None:
    pod = {
        "metadata": {"labels": labels(release, **{"managed-by": "lrm-safety", "component": "job"})},
        "spec": {
            "restartPolicy": "Never",
            "containers": [{"name": "job", "image": "x", "command": ["python", "-c", PATIENT]}],
        },
    }
    job = {"metadata": {"name": name, "labels": pod["metadata"]["labels"]}, "spec": {"template": pod}}
    node.api.ask("POST", f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs", job)


def names(node: ProcessNode, plural: str) -> list[str]:
    return [each["metadata"]["name"] for each in node.api.list(plural.format(NAMESPACE))]


def test_what_a_release_ran_ends_and_nothing_else(tmp_path: Path) -> None:
    with KubernetesApi() as api:
        node = ProcessNode(api.kubeconfig(tmp_path), tmp_path / "node")
        start_job(node, "training-ours", "ours")
        start_job(node, "training-theirs", "theirs")
        environment = process_env({"KUBECONFIG": str(node.kubeconfig)})
        command = [sys.executable, "-m", "services.leave", "--namespace", NAMESPACE, "--release", "ours"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        assert "training-ours" in done.stderr
        assert names(node, "/apis/batch/v1/namespaces/{}/jobs") == ["training-theirs"]
        assert [name.rsplit("-", 1)[0] for name in names(node, "/api/v1/namespaces/{}/pods")] == ["training-theirs"]
        node.stop()


def test_services_that_do_not_go_are_named(tmp_path: Path) -> None:
    with KubernetesApi() as api:
        kubeconfig = api.kubeconfig(tmp_path)
        node = ProcessNode(kubeconfig, tmp_path / "node")
        container = {"name": "x", "image": "x", "command": ["sleep", "300"]}
        pod = {
            "metadata": {"name": "ours-trainer-1", "labels": labels("ours", component="trainer")},
            "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
        }
        node.api.ask("POST", f"/api/v1/namespaces/{NAMESPACE}/pods", pod)
        start_job(node, "training-ours", "ours")
        with pytest.raises(Unavailable, match="ours-trainer-1"):
            end_all(Kube(Settings(kubeconfig=str(kubeconfig)), NAMESPACE), "ours", patience_s=1.0)
        assert names(node, "/apis/batch/v1/namespaces/{}/jobs") == ["training-ours"]
        node.stop()
