"""The runner of jobs over a real API server, beyond the contract: races, GPUs, memory, replicas, a server that dies.

The same over the fake one, and every fault that it can play: tests/jobs/test_cluster*.py.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from lrm_safety.errors import Conflict
from lrm_safety.jobs import JobSpec, JobState, open_runner
from lrm_safety.settings import Settings
from tests.cluster.conftest import Cluster, until
from tests.cluster.control_plane import ControlPlane
from tests.jobs.conftest import Machine, wait_until, working

SLEEP = ["sleep", "300"]
WAITS = "import pathlib, sys, time\nwhile not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.1)\nprint('went on')"


@pytest.fixture
def either(cluster: Cluster) -> Cluster:
    return cluster


def patient(machine: Machine, tmp_path: Path) -> JobSpec:
    """A job that ends when the file `go` is made."""
    spec = machine.spec(WAITS)
    return replace(spec, command=[*spec.command, str(tmp_path / "go")])


def jobs_of(cluster: Cluster) -> list[str]:
    return [each["metadata"]["name"] for each in cluster.api.list(cluster.path("batch/jobs"))]


def test_one_name_is_one_job(machine: Machine, either: Cluster):
    """What is there already is returned when it is the same, and a conflict when it is not."""
    spec = machine.spec(SLEEP)
    first, again = machine.runner.submit(spec), open_runner(machine.settings).submit(spec)
    assert first.id == again.id
    with pytest.raises(Conflict, match=spec.id):
        machine.runner.submit(replace(spec, command=["sleep", "301"]))
    assert jobs_of(either) == [spec.id]


def test_racing_runners_make_one_job(machine: Machine, either: Cluster):
    spec = machine.spec("print('ran')")
    start = threading.Barrier(4)

    def submit(_: int) -> str:
        runner = open_runner(machine.settings)
        start.wait()
        return runner.submit(spec).id

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(submit, range(4))) == {spec.id}
    assert machine.wait(spec.id).state is JobState.DONE
    assert jobs_of(either) == [spec.id]
    assert machine.runner.logs(spec.id) == "ran"


def test_a_job_waits_for_a_gpu_and_runs_when_a_node_has_one(machine: Machine, either: Cluster):
    either.node.set_capacity({"nvidia.com/gpu": "0"})
    spec = machine.spec("print('on a GPU')", gpus=1, node_pool="gpu")
    machine.runner.submit(spec)
    wait_until(lambda: "nvidia.com/gpu" in machine.runner.status(spec.id).waiting)
    said = machine.wait_until_it_waits(spec.id).waiting
    assert "for 1 nvidia.com/gpu: 1 node has too little nvidia.com/gpu free" in said
    either.node.set_capacity({"nvidia.com/gpu": "1"})
    assert machine.wait(spec.id).state is JobState.DONE
    assert machine.runner.logs(spec.id) == "on a GPU"


def test_memory_that_runs_out_is_said(machine: Machine, either: Cluster):
    job = machine.submit("import time; print('up', flush=True); time.sleep(300)", memory_gib=1)
    machine.wait_for_log(job, "up")
    [pod] = either.api.list(either.path("pods"))
    either.node.oom_kill(either.namespace, pod["metadata"]["name"])
    status = machine.wait(job)
    assert (status.state, status.exit_code) == (JobState.FAILED, 137)
    assert "more memory than it asked for (1Gi)" in status.reason.replace("1024Mi", "1Gi")


def test_deleted_by_somebody_else(machine: Machine, either: Cluster):
    job = machine.submit(SLEEP)
    machine.wait(job, JobState.RUNNING)
    either.api.ask("DELETE", either.path("batch/jobs", job), {"propagationPolicy": "Background"})
    status = machine.wait(job)
    assert status.state is JobState.FAILED
    assert "deleted" in status.reason


def test_a_cancelled_job_gets_no_second_pod(machine: Machine, either: Cluster):
    """The Job controller replaces pods that go; a replacement would train beside the one that writes its checkpoint."""
    program = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(300)"
    )
    job = machine.submit(program)
    machine.wait_for_log(job, "up")
    listed = either.api.ask("GET", either.path("pods"))
    status = machine.runner.cancel(job, grace_s=1)
    assert (status.state, status.exit_code) == (JobState.CANCELLED, 137)
    told = either.api.watch(either.path("pods"), listed["metadata"]["resourceVersion"], 1)
    assert {pod["metadata"]["name"] for _, pod in told} == {pod["metadata"]["name"] for pod in listed["items"]}


def test_a_server_of_two_replicas_says_where_both_are(cluster: Cluster, settings: Settings, tmp_path: Path):
    """Only those that are ready, and none once it was cancelled."""
    cluster.node.own_addresses = True
    for made in working(cluster.settings(settings, tmp_path)):
        program = """
import http.server, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer((sys.argv[1], 8123), Answer).serve_forever()
"""
        spec = made.spec(program, port=8123, replicas=2, image="engine")
        spec = replace(spec, command=[*spec.command, "0.0.0.0"])
        made.runner.submit(spec)
        until(lambda made=made, spec=spec: len(made.runner.status(spec.id).hosts) == 2)
        assert len(set(made.runner.status(spec.id).hosts)) == 2
        assert made.runner.cancel(spec.id, grace_s=1).state is JobState.CANCELLED
        until(lambda: not cluster.api.list(cluster.path("pods")))
    cluster.node.own_addresses = False


def test_an_api_server_that_dies_and_comes_back_loses_nothing(
    cluster: Cluster, control: ControlPlane | None, settings: Settings, tmp_path: Path
):
    """kill -9 of the real API server with one job running and one being submitted meanwhile."""
    if control is None:
        pytest.skip("KUBECONFIG's API server is not ours to kill")
    for made in working(cluster.settings(settings, tmp_path)):
        first, second = patient(made, tmp_path), made.spec("print('in the dark')")
        made.runner.submit(first)
        made.wait(first.id, JobState.RUNNING)
        command = control.kill_api()
        with ThreadPoolExecutor(1) as pool:
            submitted = pool.submit(made.runner.submit, second)
            (tmp_path / "go").touch()
            control.start_api(command)
            submitted.result()
        assert made.wait(second.id).state is JobState.DONE
        assert made.wait(first.id).state is JobState.DONE
        assert made.runner.logs(first.id) == "went on"
        assert jobs_of(cluster) == [first.id, second.id]
