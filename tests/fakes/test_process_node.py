"""The node that runs pods as processes, under the fake API server: what a kubelet does and says."""

import base64
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.api_client import Api, Json, Refusal
from tests.fakes.kubernetes_api import KubernetesApi
from tests.fakes.process_node import ProcessNode

PODS = "/api/v1/namespaces/default/pods"
JOBS = "/apis/batch/v1/namespaces/default/jobs"


@pytest.fixture(scope="module")
def fake() -> Iterator[KubernetesApi]:
    with KubernetesApi() as made:
        yield made


@pytest.fixture(scope="module")
def node(fake: KubernetesApi, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessNode]:
    folder = tmp_path_factory.mktemp("node")
    made = ProcessNode(fake.kubeconfig(folder), folder / "pods", capacity={"cpu": "2"})
    yield made
    made.stop()


@pytest.fixture
def api(node: ProcessNode) -> Api:
    return node.api


def until(ask: Callable[[], object], is_so: Callable[[object], object] = bool) -> object:
    end = time.monotonic() + 30
    while not is_so(last := ask()):
        assert time.monotonic() < end, f"still {last}"
        time.sleep(0.05)
    return last


def container(program: str, **more: object) -> Json:
    return {"name": "main", "image": "worker", "command": ["python", "-S", "-c", program], **more}


def run(api: Api, name: str, *containers: Json, **spec: object) -> None:
    pod = {"restartPolicy": "Never", "containers": list(containers), **spec}
    api.ask("POST", PODS, {"metadata": {"name": name, "labels": {"app": name}}, "spec": pod})


def pod(api: Api, name: str) -> Json:
    return api.ask("GET", f"{PODS}/{name}")


def phase(api: Api, name: str) -> str:
    return str(pod(api, name)["status"]["phase"])


def wait_for_phase(api: Api, name: str, wanted: str) -> Json:
    until(lambda: phase(api, name), lambda last: last == wanted)
    return pod(api, name)


def log(api: Api, name: str, **query: str) -> str:
    return api.read(f"{PODS}/{name}/log", **query)


def test_environment_volumes_and_init_containers(api: Api):
    api.ask("POST", "/api/v1/namespaces/default/configmaps", {"metadata": {"name": "c"}, "data": {"FROM_MAP": "1"}})
    key = {"metadata": {"name": "s"}, "data": {"KEY": base64.b64encode(b"hidden").decode()}}
    api.ask("POST", "/api/v1/namespaces/default/secrets", key)
    shared = {"volumeMounts": [{"name": "state", "mountPath": "/var/lib/lrm"}]}
    write = container("open('/var/lib/lrm/made', 'w').write('by init')", **shared) | {"name": "init"}
    program = "import os, sys; print(open(sys.argv[1]).read(), *(os.environ[n] for n in sys.argv[2:]))"
    names = ["FROM_MAP", "KEY", "WHO", "LABEL", "FULL"]
    read = container(program, **shared)
    read["command"] += ["/var/lib/lrm/made", *names]
    read["envFrom"] = [{"configMapRef": {"name": "c"}}, {"secretRef": {"name": "s"}}]
    read["env"] = [
        {"name": "WHO", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
        {"name": "FULL", "value": "$(WHO)-$(FROM_MAP)-$$(WHO)-$(UNKNOWN)"},
    ]
    run(api, "env", read, initContainers=[write], volumes=[{"name": "state", "emptyDir": {}}])
    wait_for_phase(api, "env", "Succeeded")
    assert log(api, "env") == "by init 1 hidden env env env-1-$(WHO)-$(UNKNOWN)\n"


@pytest.mark.parametrize(
    ("name", "program", "code", "reason"),
    [("ends", "", 0, "Completed"), ("fails", "raise SystemExit(3)", 3, "Error"), ("absent", None, 128, "StartError")],
)
def test_ends(api: Api, name: str, program: str | None, code: int, reason: str):
    made = container(program or "")
    if program is None:
        made["command"] = ["/nowhere/program"]
    run(api, name, made)
    ended = wait_for_phase(api, name, "Failed" if code else "Succeeded")
    state = ended["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (state["exitCode"], state["reason"]) == (code, reason)


def test_a_deleted_pod_stops_in_order_and_says_how_before_it_goes(api: Api):
    program = """
import signal, subprocess, sys, time
subprocess.Popen(['sleep', '300'], start_new_session=True)
signal.signal(signal.SIGTERM, lambda *_: (print('checkpoint', flush=True), sys.exit(7)))
print('ready', flush=True)
time.sleep(300)
"""
    run(api, "stops", container(program))
    until(lambda: phase(api, "stops") == "Running" and "ready" in log(api, "stops"))
    version = pod(api, "stops")["metadata"]["resourceVersion"]
    api.ask("DELETE", f"{PODS}/stops", {"gracePeriodSeconds": 20})
    seen = list(
        api.watch(PODS, version, 3, fieldSelector="metadata.name=stops"),
    )
    ends = [
        each["status"]["containerStatuses"][0]["state"].get("terminated", {}).get("exitCode") for type_, each in seen
    ]
    assert 7 in ends
    assert seen[-1][0] == "DELETED"
    with pytest.raises(Refusal, match="404"):
        pod(api, "stops")


def test_memory_that_runs_out(api: Api, node: ProcessNode):
    run(api, "oom", container("import time; time.sleep(300)"))
    wait_for_phase(api, "oom", "Running")
    node.oom_kill("default", "oom")
    state = wait_for_phase(api, "oom", "Failed")["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (state["exitCode"], state["reason"]) == (137, "OOMKilled")


def test_an_image_that_cannot_be_pulled(api: Api, node: ProcessNode):
    node.missing_images.add("nowhere/engine:1")
    run(api, "image", container("") | {"image": "nowhere/engine:1"})

    def waits_for() -> object:
        [state] = pod(api, "image")["status"].get("containerStatuses") or [{"state": {}}]
        return state["state"].get("waiting", {}).get("reason")

    until(waits_for, lambda reason: reason == "ImagePullBackOff")
    node.missing_images.clear()
    wait_for_phase(api, "image", "Succeeded")


def test_a_deployment_serves_when_its_probe_says_so_and_restarts_when_it_dies(api: Api, tmp_path: Path):
    program = f"""
import http.server, os, pathlib
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == '/die':
            os._exit(1)
        self.send_response(200 if pathlib.Path({str(tmp_path)!r}, 'ready').exists() else 503)
        self.end_headers()
server = http.server.HTTPServer(('127.0.0.1', 0), Answer)
pathlib.Path({str(tmp_path)!r}, 'port').write_text(str(server.server_port))
server.serve_forever()
"""
    port = tmp_path / "port"
    check = f"import urllib.request as u; u.urlopen('http://127.0.0.1:' + open({str(port)!r}).read())"
    probe = {"exec": {"command": ["python", "-S", "-c", check]}}
    template = {
        "metadata": {"labels": {"app": "d"}},
        "spec": {"containers": [container(program, readinessProbe=probe)]},
    }
    path = "/apis/apps/v1/namespaces/default/deployments"
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": "d"}}, "template": template}
    api.ask("POST", path, {"metadata": {"name": "d"}, "spec": spec})

    def available() -> int:
        return int(api.ask("GET", f"{path}/d")["status"].get("availableReplicas", 0))

    until(port.exists)
    assert available() == 0
    (tmp_path / "ready").touch()
    until(available)
    [name] = [each["metadata"]["name"] for each in api.list(PODS, labelSelector="app=d")]
    node_pid = int(pod(api, name)["status"]["containerStatuses"][0]["containerID"].removeprefix("process://"))
    os.kill(node_pid, 9)
    until(lambda: pod(api, name)["status"]["containerStatuses"][0]["restartCount"] == 1)
    until(available)
    api.ask("DELETE", f"{path}/d", {"propagationPolicy": "Foreground"})
    until(lambda: not api.list(PODS, labelSelector="app=d"))


def test_a_job_waits_for_a_gpu_in_the_schedulers_words_until_the_node_has_one(api: Api, node: ProcessNode):
    gpu = container("print('on a GPU')", resources={"limits": {"nvidia.com/gpu": "1"}})
    job = {"backoffLimit": 0, "template": {"spec": {"restartPolicy": "Never", "containers": [gpu]}}}
    api.ask("POST", JOBS, {"metadata": {"name": "gpu"}, "spec": job})

    def why() -> object:
        pods = api.list(PODS, labelSelector="job-name=gpu")
        return [condition.get("message") for each in pods for condition in each["status"].get("conditions") or []]

    until(why, lambda said: said == ["0/1 nodes are available: 1 Insufficient nvidia.com/gpu."])
    node.set_capacity({"nvidia.com/gpu": "1"})
    until(lambda: api.ask("GET", f"{JOBS}/gpu")["status"].get("succeeded"), lambda number: number == 1)


def test_two_pods_of_an_indexed_job_find_each_other(api: Api):
    program = "import os, sys; print(os.environ['JOB_COMPLETION_INDEX'], sys.argv[1])"
    made = container(program)
    made["command"].append("pair-0.pair:29500")
    template = {"spec": {"restartPolicy": "Never", "subdomain": "pair", "containers": [made]}}
    spec = {"completionMode": "Indexed", "completions": 2, "parallelism": 2, "template": template}
    api.ask("POST", JOBS, {"metadata": {"name": "pair"}, "spec": spec})
    until(lambda: api.ask("GET", f"{JOBS}/pair")["status"].get("completedIndexes"), lambda done: done == "0,1")
    names = [each["metadata"]["name"] for each in api.list(PODS, labelSelector="job-name=pair")]
    assert sorted(log(api, name) for name in names) == ["0 127.0.0.1:29500\n", "1 127.0.0.1:29500\n"]
