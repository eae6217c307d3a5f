"""What only the fake API server does: being away on demand, and what came after the Kubernetes 1.20 of the real one.

Kubernetes 1.20 drops podFailurePolicy, suspend and Indexed without a word. More of it: tests/jobs/test_cluster*.py.
"""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lrm_safety.jobs import JobState
from tests.cluster.conftest import Cluster
from tests.cluster.test_runner import SLEEP
from tests.fakes.kubernetes_api import KubernetesApi
from tests.jobs.conftest import Machine, wait_until


@pytest.fixture
def either(fake_cluster: Cluster) -> Cluster:
    return fake_cluster


@pytest.fixture
def fake(either: Cluster) -> KubernetesApi:
    assert either.fake
    return either.fake


def test_a_cancel_during_an_absence_is_carried_out_after_it(machine: Machine, fake: KubernetesApi):
    job = machine.submit(SLEEP)
    machine.wait(job, JobState.RUNNING)
    fake.down()
    with ThreadPoolExecutor(1) as pool:
        cancelled = pool.submit(machine.runner.cancel, job, 1)
        time.sleep(1)
        fake.up()
        assert cancelled.result().state is JobState.CANCELLED


def test_input_that_is_wrong_ends_the_job_at_once(machine: Machine, either: Cluster):
    """By podFailurePolicy, not by counting failures."""
    job = machine.submit("raise SystemExit(65)")
    status = machine.wait(job)
    assert (status.state, status.exit_code) == (JobState.FAILED, 65)
    [made] = either.api.list(either.path("batch/jobs"))
    assert {each["reason"] for each in made["status"]["conditions"]} == {"PodFailurePolicy"}


def test_a_suspended_job_says_that_it_is(machine: Machine, either: Cluster):
    """As Kueue leaves it."""
    spec = machine.spec(SLEEP)
    machine.runner.submit(spec)
    machine.wait(spec.id, JobState.RUNNING)
    either.api.patch(either.path("batch/jobs", spec.id), {"spec": {"suspend": True}})
    status = machine.wait(spec.id, JobState.QUEUED)
    wait_until(lambda: "suspended" in machine.runner.status(spec.id).waiting)
    assert status.state is JobState.QUEUED
    either.api.patch(either.path("batch/jobs", spec.id), {"spec": {"suspend": False}})
    machine.wait(spec.id, JobState.RUNNING)
