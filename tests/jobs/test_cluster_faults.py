"""An API server that is away, in haste, forgetful or strict: no job is lost or made twice; errors say what to do."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lrm_safety.errors import Denied, Exhausted, InvalidInput, NotFound, Unavailable
from lrm_safety.jobs import JobState, kube
from lrm_safety.jobs.kube import JOBS, PODS, Kube
from lrm_safety.settings import Settings
from lrm_safety.store import open_store
from tests.fakes.kubernetes_api import KubernetesApi
from tests.jobs.conftest import Machine, wait_until, working
from tests.jobs.test_contract import SLEEP


@pytest.fixture
def machine(cluster: Settings) -> Iterator[Machine]:
    yield from working(cluster)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube, "PATIENCE_S", 0.5)


def test_a_job_goes_on_while_nobody_can_look_at_it(
    machine: Machine, api: KubernetesApi, impatient: None, tmp_path: Path
):
    program = f"import os, time\nwhile not os.path.exists('{tmp_path}/go'): time.sleep(0.05)\nprint('went on')"
    job = machine.submit(program)
    machine.wait(job, JobState.RUNNING)
    api.down()
    (tmp_path / "go").touch()
    wait_until(lambda: _refusal(machine, job))  # once the watches have noticed
    assert "jobs go on meanwhile" in _refusal(machine, job)
    for ask in (machine.runner.logs, machine.runner.cancel):
        with pytest.raises(Unavailable):
            ask(job)
    api.up()
    assert machine.wait(job).state is JobState.DONE
    assert machine.runner.logs(job) == "went on"


def test_haste_and_hiccups_are_borne(machine: Machine, api: KubernetesApi, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kube, "PAUSE_S", 0.01)
    for status in (429, 500, 503):
        api.fail_next(status, count=2, retry_after=0.0, path="/jobs")
    assert machine.wait(machine.submit("")).state is JobState.DONE


def test_a_retry_waits_as_long_as_the_server_asks(
    machine: Machine, api: KubernetesApi, monkeypatch: pytest.MonkeyPatch
):
    pauses: list[float] = []
    monkeypatch.setattr(kube.time, "sleep", pauses.append)
    api.fail_next(429, retry_after=3, method="POST", path="/jobs")
    machine.submit("")
    assert 3 in pauses


def test_a_lost_answer_makes_no_second_job(machine: Machine, api: KubernetesApi, cluster: Settings):
    api.lose_next_answer(method="POST", path="/jobs")
    job = machine.submit(["sh", "-c", "echo once"])
    assert machine.wait(job).state is JobState.DONE
    assert machine.runner.logs(job) == "once"
    assert len(Kube(cluster, "default").list(JOBS).items) == 1


def test_looking_costs_no_requests(machine: Machine, api: KubernetesApi):
    job = machine.submit(SLEEP)
    machine.wait(job, JobState.RUNNING)

    def costs() -> int:
        before = len(api.requests)
        for _ in range(20):
            assert machine.runner.status(job).state is JobState.RUNNING
        return len([path for _, path in api.requests[before:] if f"/{job}" in path or f"%2Fjob%3D{job}" in path])

    wait_until(lambda: costs() == 0)


@pytest.mark.parametrize("how", ["dropped", "forgotten"])
def test_a_watch_that_breaks_is_taken_up_again(machine: Machine, api: KubernetesApi, how: str):
    first = machine.submit(SLEEP)
    machine.wait(first, JobState.RUNNING)
    second = machine.submit(SLEEP)
    if how == "forgotten":
        api.compact()
    api.drop_watches()
    machine.wait(second, JobState.RUNNING)
    machine.runner.cancel(first, grace_s=0)
    assert machine.wait(machine.submit("")).state is JobState.DONE
    wait_until(lambda: all(mirror.objects() is not None for mirror in machine.runner._mirrors.values()))


def test_an_end_whose_log_cannot_be_read_is_an_end(machine: Machine, api: KubernetesApi, impatient: None):
    api.fail_next(500, count=100, path="/log")
    job = machine.submit("print('said'); raise SystemExit(3)")
    assert machine.wait(job).exit_code == 3
    assert machine.runner.logs(job) == ""


def test_the_log_is_in_the_store_before_the_objects_may_go(machine: Machine, api: KubernetesApi, impatient: None):
    job = machine.submit("print('said')")
    api.fail_next(503, count=100, method="PATCH", path="/jobs")
    with pytest.raises(Unavailable):
        machine.wait(job)
    assert open_store(machine.settings).read(f"jobs/{job}/log") == b"said\n"
    assert machine.runner.status(job).state is JobState.DONE


def test_what_rbac_must_grant_is_said(machine: Machine, api: KubernetesApi, cluster: Settings):
    api.fail_next(403, method="POST", path="/jobs")
    says = r'may not create jobs in namespace default; its Role must grant apiGroups \["batch"\], .*verbs \["create"\]'
    with pytest.raises(Denied, match=says):
        machine.submit("")
    api.fail_next(403, path="/log")
    with pytest.raises(Denied, match=r'apiGroups \[""\], resources \["pods/log"\], verbs \["get"\]'):
        Kube(cluster, "default").log("x", "job")


def test_words_are_not_worth_a_permission(machine: Machine, api: KubernetesApi, node: object, cluster: Settings):
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    Kube(cluster, "default").create(kube.RESOURCE_QUOTAS, quota)
    api.fail_next(403, count=100, path="/resourcequotas")
    assert "a quota or rule of namespace default" in machine.wait_until_it_waits(machine.submit("")).waiting


def test_refusals_are_told_apart(cluster: Settings):
    asked = Kube(cluster, "default")
    with pytest.raises(NotFound):
        asked.get(JOBS, "nobody")
    with pytest.raises(InvalidInput, match="answers 422"):
        asked.create(JOBS, {"metadata": {"name": "Bad_Name"}, "spec": {"template": {"spec": {}}}})
    asked.create(kube.RESOURCE_QUOTAS, {"metadata": {"name": "q"}, "spec": {"hard": {"count/jobs.batch": "0"}}})
    wait_until(lambda: asked.get(kube.RESOURCE_QUOTAS, "q").get("status", {}).get("hard"))
    container = {"name": "c", "image": "x"}
    job = {
        "metadata": {"name": "a"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
    }
    with pytest.raises(Exhausted, match="have the quota of namespace default raised"):
        asked.create(JOBS, job)
    asked.delete(PODS, "nobody")


def test_a_cluster_that_cannot_be_reached_from_here(cluster: Settings, tmp_path: Path):
    with pytest.raises(InvalidInput, match="KUBECONFIG"):
        Kube(Settings(), "default")


def _refusal(machine: Machine, job: str) -> str:
    """Why the job's status cannot be had; empty when it can."""
    try:
        machine.runner.status(job)
    except Unavailable as error:
        return str(error)
    return ""
