"""What an API server may do to a runner: too many requests, lost answers, broken watches, forgotten revisions, absence.

On the fake one only, which does it when asked to.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lrm_safety.jobs import JobState
from tests.cluster.conftest import Cluster
from tests.cluster.test_runner import SLEEP, jobs_of, patient
from tests.fakes.kubernetes_api import KubernetesApi
from tests.jobs.conftest import Machine, wait_until


@pytest.fixture
def either(fake_cluster: Cluster) -> Cluster:
    return fake_cluster


@pytest.fixture
def fake(either: Cluster) -> KubernetesApi:
    assert either.fake
    return either.fake


def test_429_is_waited_out_as_long_as_it_says(machine: Machine, fake: KubernetesApi):
    fake.fail_next(429, count=2, retry_after=1, method="POST", path="/jobs")
    start = time.monotonic()
    job = machine.submit("print('ran')")
    assert time.monotonic() - start >= 2
    assert machine.wait(job).state is JobState.DONE


@pytest.mark.parametrize("status", [500, 503])
def test_a_failing_server_is_asked_again(machine: Machine, fake: KubernetesApi, status: int):
    fake.fail_next(status, count=2, method="POST", path="/jobs")
    assert machine.wait(machine.submit("print('ran')")).state is JobState.DONE


def test_a_lost_answer_makes_no_second_job(machine: Machine, either: Cluster, fake: KubernetesApi):
    fake.lose_next_answer(method="POST", path="/jobs")
    job = machine.submit("print('ran')")
    assert machine.wait(job).state is JobState.DONE
    assert jobs_of(either) == [job]


@pytest.mark.parametrize("fault", ["watches drop", "history is compacted", "server goes and comes back"])
def test_watches_find_their_way_back(machine: Machine, fake: KubernetesApi, tmp_path: Path, fault: str):
    job = patient(machine, tmp_path)
    machine.runner.submit(job)
    machine.wait(job.id, JobState.RUNNING)
    if fault == "server goes and comes back":
        fake.down()
    if fault == "history is compacted":
        fake.compact()
    fake.drop_watches()
    (tmp_path / "go").touch()
    if fault == "server goes and comes back":
        time.sleep(1)
        fake.up()
    assert machine.wait(job.id).state is JobState.DONE
    assert machine.runner.logs(job.id) == "went on"


def test_a_cancel_during_an_absence_is_carried_out_after_it(machine: Machine, fake: KubernetesApi):
    job = machine.submit(SLEEP)
    machine.wait(job, JobState.RUNNING)
    fake.down()
    with ThreadPoolExecutor(1) as pool:
        cancelled = pool.submit(machine.runner.cancel, job, 1)
        time.sleep(1)
        fake.up()
        assert cancelled.result().state is JobState.CANCELLED


def test_looking_costs_no_requests(machine: Machine, fake: KubernetesApi):
    """A watch tells of changes: a thousand looks at a running job are no thousand requests."""
    job = machine.submit(SLEEP)
    machine.wait(job, JobState.RUNNING)
    wait_until(lambda: sum("watch=true" in path and "jobs" in path for _, path in fake.requests) >= 1)
    time.sleep(0.5)
    before = sum("process-node" not in path for _, path in fake.requests)
    for _ in range(1000):
        machine.runner.status(job)
    assert sum("process-node" not in path for _, path in fake.requests) - before < 20


def test_a_disrupted_pod_is_replaced_within_the_job(machine: Machine, either: Cluster, tmp_path: Path):
    """podFailurePolicy, which Kubernetes 1.20 drops without a word: so not on that server."""
    spec = patient(machine, tmp_path)
    machine.runner.submit(spec)
    machine.wait(spec.id, JobState.RUNNING)
    [first] = either.api.list(either.path("pods"))
    either.api.ask("POST", either.path("pods", first["metadata"]["name"]) + "/eviction", {})
    wait_until(lambda: first["metadata"]["uid"] not in uids(either) and uids(either))
    (tmp_path / "go").touch()
    assert machine.wait(spec.id).state is JobState.DONE


def test_input_that_is_wrong_ends_the_job_at_once(machine: Machine, either: Cluster):
    """By podFailurePolicy: see above."""
    job = machine.submit("raise SystemExit(65)")
    status = machine.wait(job)
    assert (status.state, status.exit_code) == (JobState.FAILED, 65)
    [made] = either.api.list(either.path("batch/jobs"))
    assert {each["reason"] for each in made["status"]["conditions"]} == {"PodFailurePolicy"}


def test_a_job_of_two_nodes_meets_at_its_first(machine: Machine, either: Cluster):
    """An Indexed Job, which Kubernetes 1.20 does not have."""
    program = "import os, sys; print(sys.argv[1:])"
    spec = machine.spec(program, nodes=2)
    spec.command.extend(["--node-rank=$(NODE_RANK)", "--master=$(MASTER_ADDR):$(MASTER_PORT)"])
    machine.runner.submit(spec)
    assert machine.wait(spec.id).state is JobState.DONE
    log = machine.runner.logs(spec.id)
    assert "--node-rank=0" in log
    assert "--node-rank=1" in log
    assert log.count("--master=127.0.0.1:29500") == 2


def test_a_suspended_job_says_that_it_is(machine: Machine, either: Cluster):
    """As Kueue leaves it. Kubernetes 1.20 has no suspended jobs."""
    spec = machine.spec(SLEEP)
    machine.runner.submit(spec)
    machine.wait(spec.id, JobState.RUNNING)
    either.api.patch(either.path("batch/jobs", spec.id), {"spec": {"suspend": True}})
    status = machine.wait(spec.id, JobState.QUEUED)
    wait_until(lambda: "suspended" in machine.runner.status(spec.id).waiting)
    assert status.state is JobState.QUEUED
    either.api.patch(either.path("batch/jobs", spec.id), {"spec": {"suspend": False}})
    machine.wait(spec.id, JobState.RUNNING)


def uids(cluster: Cluster) -> set[str]:
    return {pod["metadata"]["uid"] for pod in cluster.api.list(cluster.path("pods"))}
