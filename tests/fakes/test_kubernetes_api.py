"""The fake API server under the probe that real ones pass, so that it cannot drift from them; and its own switches."""

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client, config, watch
from kubernetes.client.rest import ApiException
from urllib3.exceptions import HTTPError

from tests.conftest import SHARED_DATA
from tests.fakes.kubernetes_api import KubernetesApi

PROBE = SHARED_DATA.parent / "tools" / "k8s_probe.py"


@pytest.fixture
def api() -> Iterator[KubernetesApi]:
    with KubernetesApi() as made:
        yield made


@pytest.fixture
def clients(api: KubernetesApi, tmp_path: Path) -> client.ApiClient:
    made = config.new_client_from_config(str(api.kubeconfig(tmp_path)))
    made.configuration.retries = False
    return made


@pytest.fixture
def core(clients: client.ApiClient) -> client.CoreV1Api:
    return client.CoreV1Api(clients)


@pytest.mark.skipif(not PROBE.exists(), reason="needs tools/k8s_probe.py in the shared folder beside the checkout")
def test_it_passes_the_probe_of_real_servers(api: KubernetesApi):
    command = [sys.executable, str(PROBE), "--insecure-url", api.url]
    said = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert "24 passed, 0 failed" in said, said
    assert re.search(r"PASS throughput create/get x200 +create \d{2,}/s", said), said


def test_two_servers_of_a_machine_share_no_uid(core: client.CoreV1Api, tmp_path: Path):
    """A node ends a pod's processes by its uid: it must not find those of another test that runs at the same time."""
    with KubernetesApi() as other:
        (tmp_path / "other").mkdir()
        theirs = client.CoreV1Api(config.new_client_from_config(str(other.kubeconfig(tmp_path / "other"))))
        uids = [{each.metadata.uid for each in one.list_namespace().items} for one in (core, theirs)]
    assert uids[0]
    assert not uids[0] & uids[1]


def config_map(core: client.CoreV1Api, name: str) -> client.V1ConfigMap:
    return core.create_namespaced_config_map("default", {"metadata": {"name": name}})


def test_a_compacted_revision_is_410_and_a_relist_goes_on(api: KubernetesApi, core: client.CoreV1Api):
    version = config_map(core, "a").metadata.resource_version
    config_map(core, "b")
    api.compact()
    stream = watch.Watch().stream(core.list_namespaced_config_map, "default", resource_version=version)
    with pytest.raises(ApiException) as raised:
        next(iter(stream))
    assert raised.value.status == 410
    listed = core.list_namespaced_config_map("default")
    config_map(core, "c")
    after = watch.Watch().stream(
        core.list_namespaced_config_map, "default", resource_version=listed.metadata.resource_version
    )
    assert next(iter(after))["object"].metadata.name == "c"


def test_429_says_when_to_come_back(api: KubernetesApi, core: client.CoreV1Api):
    api.fail_next(429, count=1, retry_after=2, method="POST", path="configmaps")
    with pytest.raises(ApiException) as raised:
        config_map(core, "a")
    assert (raised.value.status, raised.value.headers["Retry-After"]) == (429, "2")
    assert config_map(core, "a").metadata.name == "a"


def test_a_lost_answer_leaves_what_was_asked_done(api: KubernetesApi, core: client.CoreV1Api):
    api.lose_next_answer(method="POST")
    with pytest.raises(HTTPError):
        config_map(core, "a")
    assert core.read_namespaced_config_map("a", "default").metadata.name == "a"


def test_watches_break_and_the_server_goes_and_comes_back(api: KubernetesApi, core: client.CoreV1Api):
    for cut in (api.drop_watches, api.down):
        timer = threading.Timer(0.5, cut)
        timer.start()
        answer = core.list_namespaced_config_map("default", watch=True, timeout_seconds=30, _preload_content=False)
        with pytest.raises(HTTPError):
            for _ in answer.stream():
                pass
        timer.join()
    with pytest.raises(HTTPError):
        core.list_namespaced_config_map("default")
    api.up()
    assert core.list_namespaced_config_map("default").items


def job(name: str, pod: dict[str, object] | None = None, **spec: object) -> dict[str, object]:
    container = {"name": "main", "image": "worker", "command": ["true"]}
    pod = {"restartPolicy": "Never", "containers": [container], **(pod or {})}
    return {"metadata": {"name": name}, "spec": {**spec, "template": {"spec": pod}}}


def until(ask: "object", wanted: "object") -> None:
    end = time.monotonic() + 10
    while (last := ask()) != wanted:  # type: ignore[operator]
        assert time.monotonic() < end, f"{last} is not {wanted}"
        time.sleep(0.02)


def end_pods(core: client.CoreV1Api, name: str, code: int, conditions: list[dict[str, str]] | None = None) -> None:
    """As a node would say that their container ended with the code."""
    for pod in core.list_namespaced_pod("default", label_selector=f"job-name={name},gone!=yes").items:
        state = {"name": "main", "image": "worker", "imageID": "", "ready": False, "restartCount": 0}
        state["state"] = {"terminated": {"exitCode": code}}
        phase = "Failed" if code else "Succeeded"
        status = {"phase": phase, "containerStatuses": [state], "conditions": conditions or []}
        if pod.status.phase == "Pending":
            core.patch_namespaced_pod_status(pod.metadata.name, "default", {"status": status})


def test_a_pod_failure_policy_decides(api: KubernetesApi, core: client.CoreV1Api, clients: client.ApiClient):
    batch = client.BatchV1Api(clients)
    rules = [
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]
    for name in ("refused", "disrupted"):
        batch.create_namespaced_job("default", job(name, backoffLimit=0, podFailurePolicy={"rules": rules}))
    pods = lambda name: len(core.list_namespaced_pod("default", label_selector=f"job-name={name}").items)  # noqa: E731
    until(lambda: (pods("refused"), pods("disrupted")), (1, 1))
    end_pods(core, "refused", 42)
    end_pods(core, "disrupted", 137, [{"type": "DisruptionTarget", "status": "True"}])
    ends = lambda: {c.type: c.reason for c in batch.read_namespaced_job("refused", "default").status.conditions or []}  # noqa: E731
    until(lambda: ends().get("Failed"), "PodFailurePolicy")
    until(lambda: pods("disrupted"), 2)
    assert not batch.read_namespaced_job("disrupted", "default").status.conditions


def test_indexed_pods_know_their_number(api: KubernetesApi, core: client.CoreV1Api, clients: client.ApiClient):
    batch = client.BatchV1Api(clients)
    made = job("two", {"subdomain": "two"}, completionMode="Indexed", completions=2, parallelism=2)
    batch.create_namespaced_job("default", made)
    listed = lambda: core.list_namespaced_pod("default", label_selector="job-name=two").items  # noqa: E731
    until(lambda: sorted(pod.spec.hostname for pod in listed()), ["two-0", "two-1"])
    until(lambda: {pod.status.conditions[0].reason for pod in listed()}, {"Unschedulable"})
    end_pods(core, "two", 0)
    until(lambda: batch.read_namespaced_job("two", "default").status.completed_indexes, "0,1")
    batch.delete_namespaced_job("two", "default", propagation_policy="Background")
    until(lambda: len(listed()), 0)
