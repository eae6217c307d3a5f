"""The rights that the chart grants, on a real API server: enough for all that services ask, and for nothing else."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from lrm_safety.errors import Denied
from lrm_safety.jobs import JobSpec, JobState, open_runner
from lrm_safety.settings import Settings
from tests.chart.rendering import CHART, VALUES, helm, helm_program
from tests.cluster.conftest import Cluster
from tests.fakes.api_client import Api, Json, Refusal
from tests.jobs.conftest import Machine, wait_until, working

RELEASE = "lrm-safety"
RBAC = "rbac.authorization.k8s.io"
PLURALS = {"ServiceAccount": "serviceaccounts", "Role": f"{RBAC}/roles", "RoleBinding": f"{RBAC}/rolebindings"}
REFUSED = rf"403.*system:serviceaccount:[\w-]+:{RELEASE}-(trainer|inference)"  # and nobody else was
SERVER = """
import http.server
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(('127.0.0.1', 8124), Answer).serve_forever()
"""


@pytest.fixture
def granted(cluster: Cluster) -> Cluster:
    """The chart's accounts, Roles and RoleBindings in the namespace, and nothing else of it."""
    if not helm_program():
        pytest.skip("no helm: make .venv/bin/helm")
    values = ("-n", cluster.namespace, "-f", str(VALUES["default"]), "--kube-version", "1.20.2")
    done = helm("template", RELEASE, str(CHART), *values)
    assert done.returncode == 0, done.stderr
    for each in yaml.load_all(done.stdout, yaml.CSafeLoader):
        if each and each["kind"] in PLURALS and "helm.sh/hook" not in (each["metadata"].get("annotations") or {}):
            each["metadata"].pop("namespace", None)
            cluster.api.ask("POST", cluster.path(PLURALS[each["kind"]]), each)
    return cluster


def kubeconfig(cluster: Cluster, account: str, folder: Path) -> Path:
    """Of a service account, by a token as a pod gets it."""
    made = cluster.api.ask("POST", cluster.path("serviceaccounts", account) + "/token", {"spec": {}})
    config: Json = yaml.safe_load(cluster.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": made["status"]["token"]}
    path = folder / f"{account}.kubeconfig"
    path.write_text(json.dumps(config))
    return path


@pytest.fixture(params=["trainer", "inference"])
def service(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def account(service: str, granted: Cluster, tmp_path: Path) -> Path:
    """A kubeconfig of the service."""
    return kubeconfig(granted, f"{RELEASE}-{service}", tmp_path)


@pytest.fixture
def machine(granted: Cluster, account: Path, settings: Settings, tmp_path: Path) -> Iterator[Machine]:
    yield from working(granted.settings(settings, tmp_path, kubeconfig=account))


@pytest.mark.parametrize("service", ["trainer"])
def test_it_is_enough_for_jobs(machine: Machine):
    done = machine.submit("print('ran')")
    assert machine.wait(done).state is JobState.DONE
    assert machine.runner.logs(done) == "ran"
    running = machine.submit("import time; print('up', flush=True); time.sleep(300)")
    machine.wait_for_log(running, "up")
    machine.runner.note_at_stake(running, gpu_seconds=60)
    assert machine.runner.cancel(running, grace_s=1).state is JobState.CANCELLED


@pytest.mark.parametrize("service", ["inference"])
def test_it_is_enough_for_servers(machine: Machine, granted: Cluster, monkeypatch: pytest.MonkeyPatch):
    """An engine whose weights are fetched at once: it takes requests when its pod's label could be taken away."""
    monkeypatch.setattr(granted.node, "replaced", {"services.inference.weights": "platform"})
    spec = machine.spec(SERVER, port=8124, image="engine", weights="model@0")
    machine.runner.submit(spec)
    wait_until(lambda: machine.runner.status(spec.id).hosts)
    assert machine.runner.cancel(spec.id, grace_s=1).state is JobState.CANCELLED


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/namespaces/{}/secrets"),
        ("GET", "/api/v1/namespaces/{}/configmaps"),
        ("POST", "/api/v1/namespaces/{}/pods"),
        ("POST", "/apis/apps/v1/namespaces/{}/daemonsets"),
        ("GET", f"/apis/{RBAC}/v1/namespaces/{{}}/roles"),
        ("POST", f"/apis/{RBAC}/v1/namespaces/{{}}/rolebindings"),
        ("POST", "/api/v1/namespaces/{}/serviceaccounts/lrm-safety-bench/token"),
    ],
)
def test_it_is_not_enough_for_more(granted: Cluster, account: Path, method: str, path: str):
    """Least of all for reading Secrets, or for making a pod of its own choice or another account's token."""
    body = {"metadata": {"name": "x"}} if method == "POST" else None
    with pytest.raises(Refusal, match=REFUSED):
        Api(account).ask(method, path.format(granted.namespace), body)


@pytest.mark.parametrize(
    ("service", "path"),
    [("trainer", "/apis/apps/v1/namespaces/{}/deployments"), ("inference", "/apis/batch/v1/namespaces/{}/jobs")],
)
def test_neither_writes_what_the_other_makes(granted: Cluster, account: Path, path: str):
    """But it may look for it there."""
    api, objects = Api(account), path.format(granted.namespace)
    assert api.list(objects) == []
    for method, name in (("POST", ""), ("PATCH", "/x"), ("DELETE", "/x"), ("DELETE", "")):
        with pytest.raises(Refusal, match=REFUSED):
            api.ask(method, objects + name, {"metadata": {"name": "x"}} if method != "DELETE" else None)


@pytest.mark.parametrize("path", ["/api/v1/nodes", "/api/v1/secrets", "/apis/batch/v1/namespaces/default/jobs"])
def test_it_ends_at_the_namespace(granted: Cluster, account: Path, path: str):
    with pytest.raises(Refusal, match=REFUSED):
        Api(account).ask("GET", path)


def test_the_runner_says_what_a_role_lacks(granted: Cluster, settings: Settings, tmp_path: Path):
    """An account without rights, and another namespace: in words that a platform team can act on."""
    job = JobSpec(id="refused", command=["true"], cpus=0, memory_gib=0)
    bench = granted.settings(settings, tmp_path, kubeconfig=kubeconfig(granted, f"{RELEASE}-bench", tmp_path))
    with pytest.raises(Denied, match=r'may not create jobs in namespace .*apiGroups \["batch"\], resources \["jobs"\]'):
        open_runner(bench).submit(job)
    elsewhere = replace(granted, namespace="default").settings(settings, tmp_path)
    elsewhere = replace(elsewhere, kubeconfig=str(kubeconfig(granted, f"{RELEASE}-trainer", tmp_path)))
    with pytest.raises(Denied, match="in namespace default"):
        open_runner(elsewhere).submit(job)
