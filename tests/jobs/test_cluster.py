"""What a job of a cluster goes through, on a fake API server and a node whose pods are processes of this machine."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from kubernetes import client, config

from lrm_safety.errors import Conflict, Denied, InvalidInput, NotFound
from lrm_safety.jobs import JobState, open_runner
from lrm_safety.jobs.kube import DEPLOYMENTS, JOBS, PODS, SERVICES, Kube, Object
from lrm_safety.jobs.manifests import COST_ANNOTATION, FETCHING_LABEL
from lrm_safety.jobs.pods import is_so
from lrm_safety.settings import Settings
from lrm_safety.store import open_store
from tests.conftest import free_ports
from tests.fakes.kubernetes_api import KubernetesApi
from tests.fakes.process_node import ProcessNode
from tests.jobs.conftest import CLUSTER, Machine, wait_until, working
from tests.jobs.test_contract import SERVER, SLEEP


@pytest.fixture
def machine(cluster: Settings) -> Iterator[Machine]:
    yield from working(cluster)


@pytest.fixture
def kube(cluster: Settings) -> Kube:
    return Kube(cluster, "default")


@pytest.fixture
def core(cluster: Settings) -> client.CoreV1Api:
    return client.CoreV1Api(config.new_client_from_config(cluster.kubeconfig))


def pods_of(kube: Kube, job_id: str) -> list[Object]:
    return kube.list(PODS, f"lrm-safety/job={job_id}").items


def configure(machine: Machine, **changes: object) -> None:
    """The cluster's description changes, as with an upgrade; runners made from now on know."""
    machine.settings.cluster.write_text(json.dumps({**CLUSTER, **changes}))
    machine.runner.close()
    machine.runner = open_runner(machine.settings)


def test_two_nodes_find_each_other(machine: Machine, kube: Kube):
    said = "echo node $0 of $1 port $2; sleep 0.2"
    job = machine.submit(["sh", "-c", said, "$(NODE_RANK)", "$(MASTER_ADDR)", "$(MASTER_PORT)"], nodes=2)
    service = kube.get(SERVICES, job)
    assert service["spec"]["clusterIP"] == "None"
    assert machine.wait(job).state is JobState.DONE
    lines = machine.runner.logs(job).splitlines()
    assert [line for line in lines if line.startswith("node")] == [
        f"node {rank} of 127.0.0.1 port 29500"
        for rank in (0, 1)  # where the node resolves {job}-0.{job} to
    ]
    assert [line.split("-")[-2] for line in lines if line.startswith("==>")] == ["0", "1"]
    kube.delete(JOBS, job)
    wait_until(lambda: kube.list(SERVICES).items == [])


def test_one_node_that_fails_ends_the_job_with_its_exit_code(machine: Machine, tmp_path: Path):
    program = f'echo node $0; [ "$0" = 1 ] && while [ ! -e {tmp_path}/go ]; do sleep 0.1; done && exit 9; sleep 300'
    job = machine.submit(["sh", "-c", program, "$(NODE_RANK)"], nodes=2)
    machine.wait_for_log(job, "node 0")
    (tmp_path / "go").touch()
    status = machine.wait(job)
    assert (status.state, status.exit_code) == (JobState.FAILED, 9)
    assert {"node 0", "node 1"} < set(machine.runner.logs(job).splitlines())


def test_wrong_input_is_told_by_its_exit_code(machine: Machine):
    status = machine.wait(machine.submit("raise SystemExit(65)"))
    assert (status.state, status.exit_code) == (JobState.FAILED, 65)


def test_memory_that_is_used_up(machine: Machine, node: ProcessNode, kube: Kube):
    job = machine.submit(SLEEP, memory_gib=0.5)
    machine.wait(job, JobState.RUNNING)
    node.oom_kill("default", pods_of(kube, job)[0]["metadata"]["name"])
    status = machine.wait(job)
    assert (status.state, status.exit_code) == (JobState.FAILED, 137)
    assert "more memory than it asked for (512Mi)" in status.reason


def test_a_disrupted_pod_is_replaced_and_counts_for_nothing(
    machine: Machine, kube: Kube, core: client.CoreV1Api, node: ProcessNode
):
    job = machine.submit("import time; print('here', flush=True); time.sleep(300)")
    machine.wait_for_log(job, "here")
    first = pods_of(kube, job)[0]["metadata"]["name"]
    evicted = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "PreemptionByScheduler",
        "message": "urgent work",
    }
    core.patch_namespaced_pod_status(first, "default", {"status": {"conditions": [evicted]}})
    core.delete_namespaced_pod(first, "default", grace_period_seconds=1)
    wait_until(lambda: [pod["metadata"]["name"] for pod in pods_of(kube, job)] not in ([], [first]))
    assert machine.wait(job, JobState.RUNNING).state is JobState.RUNNING


def test_the_deadline(machine: Machine):
    configure(machine, deadline_s=3)
    saves = "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(3), sys.exit(1)))"  # as a training does
    job = machine.submit(f"import signal, sys, time; {saves}; print('so far', flush=True); time.sleep(300)")
    status = machine.wait(job)
    assert status.state is JobState.FAILED
    assert "stopped after 3 s" in status.reason
    assert machine.runner.logs(job) == "so far"


def test_a_gpu_is_waited_for_until_there_is_one(machine: Machine, node: ProcessNode):
    job = machine.submit("print('on a GPU')", gpus=1, node_pool="gpu")
    wait_until(lambda: "for 1 nvidia.com/gpu: 1 node has too little" in machine.runner.status(job).waiting)
    node.set_capacity({"nvidia.com/gpu": "1"})
    assert machine.wait(job).state is JobState.DONE
    assert machine.runner.machine("gpu").gpu_hour_price == 2.5
    with pytest.raises(InvalidInput, match="gpus is 2; a node of its pool has 1"):
        machine.submit(SLEEP, gpus=2, node_pool="gpu")


def test_an_image_that_comes_late(machine: Machine, node: ProcessNode):
    node.missing_images.add("lrm/worker:test")
    job = machine.submit("")
    wait_until(lambda: "image lrm/worker:test, which its node cannot pull" in machine.runner.status(job).waiting)
    node.missing_images.clear()
    assert machine.wait(job).state is JobState.DONE


def test_a_quota_is_named(machine: Machine, core: client.CoreV1Api):
    core.create_namespaced_resource_quota(
        "default", {"metadata": {"name": "team"}, "spec": {"hard": {"requests.cpu": "500m"}}}
    )
    job = machine.submit("", cpus=1)
    wait_until(lambda: "for quota team of its namespace: 0 of 500m requests.cpu" in machine.runner.status(job).waiting)


def test_it_is_known_for_ever_after_its_objects_are_gone(machine: Machine, kube: Kube):
    job = machine.submit("print('said'); raise SystemExit(3)")
    first = machine.wait(job)
    assert kube.get(JOBS, job)["spec"]["ttlSecondsAfterFinished"] == 86400
    kube.delete(JOBS, job)
    wait_until(lambda: not pods_of(kube, job))
    other = open_runner(machine.settings)
    assert other.status(job) == first
    assert (first.exit_code, first.started_at > 0, other.logs(job)) == (3, True, "said")
    assert other.submit(machine.spec("", id=job)) == first


def test_a_job_that_others_delete_is_lost_and_says_so(machine: Machine, kube: Kube):
    job = machine.submit(SLEEP)
    machine.wait(job, JobState.RUNNING)
    kube.delete(JOBS, job)
    status = machine.wait(job)
    assert status.state is JobState.FAILED
    assert "deleted from the cluster by somebody else" in status.reason


def test_a_cancel_whose_asker_died_is_finished_by_who_submits_again(machine: Machine, kube: Kube):
    spec = machine.spec(SLEEP)
    machine.runner.submit(spec)
    machine.wait(spec.id, JobState.RUNNING)
    open_store(machine.settings).write(f"jobs/{spec.id}/cancel", b"")
    assert machine.runner.submit(spec).state is JobState.CANCELLED
    assert not pods_of(kube, spec.id)
    assert open_runner(machine.settings).status(spec.id).state is JobState.CANCELLED


def test_a_name_means_one_job(machine: Machine):
    job = machine.submit(SLEEP)
    with pytest.raises(Conflict, match=f"another job {job}, which asks for something else"):
        machine.runner.submit(machine.spec("", id=job))


def test_old_jobs_are_deleted_once_they_are_remembered(machine: Machine, kube: Kube):
    spec = machine.spec("print('said')")
    machine.runner.submit(spec)
    wait_until(lambda: is_so(kube.get(JOBS, spec.id), "Complete"))
    configure(machine, ttl_s=-1)
    machine.submit("")
    wait_until(lambda: spec.id not in [job["metadata"]["name"] for job in kube.list(JOBS).items])
    assert machine.runner.logs(spec.id) == "said"


def test_who_makes_jobs_writes_no_deployment_and_who_makes_servers_no_job(
    machine: Machine, kube: Kube, api: KubernetesApi
):
    """Each has the right to the one only; old Jobs are left to who makes Jobs."""

    def written(plural: str) -> list[tuple[str, str]]:
        return [each for each in api.requests if each[0] != "GET" and f"/{plural}" in each[1]]

    spec = machine.spec("")
    machine.runner.submit(spec)
    wait_until(lambda: is_so(kube.get(JOBS, spec.id), "Complete"))
    running = machine.submit(SLEEP)
    machine.runner.cancel(running, grace_s=0)
    assert written("jobs")
    assert not written("deployments")
    configure(machine, ttl_s=-1)
    before = written("jobs")
    machine.runner.cancel(server(machine), grace_s=0)
    assert written("deployments")
    assert written("jobs") == before


def server(machine: Machine, program: str = SERVER, **wishes: object) -> str:
    [port] = free_ports(1)
    return machine.submit(["python", "-c", program, str(port)], port=port, **wishes)


def test_a_server_that_cannot_live_is_given_up(machine: Machine, kube: Kube):
    job = server(machine, "print('no such flag'); raise SystemExit(3)")
    status = machine.wait(job)
    assert (status.state, status.exit_code) == (JobState.FAILED, 3)
    assert machine.runner.logs(job) == "no such flag"
    with pytest.raises(NotFound):
        kube.get(DEPLOYMENTS, job)
    wait_until(lambda: not pods_of(kube, job))


def test_a_server_that_dies_once_is_started_again(machine: Machine, kube: Kube, node: ProcessNode):
    job = server(machine)
    wait_until(lambda: machine.runner.status(job).hosts)
    node.pod("default", pods_of(kube, job)[0]["metadata"]["name"]).kill("Error")
    wait_until(lambda: not machine.runner.status(job).hosts)
    status = machine.runner.status(job)
    assert (status.state, status.waiting != "") == (JobState.RUNNING, True)
    wait_until(lambda: machine.runner.status(job).hosts)


def test_a_server_that_loads_takes_no_requests_yet(machine: Machine, tmp_path: Path):
    program = f"import os, time\nwhile not os.path.exists('{tmp_path}/go'): time.sleep(0.1)\n{SERVER}"
    job = server(machine, program)
    status = machine.wait(job, JobState.RUNNING)
    assert (status.hosts, "load the weights" in status.waiting) == ((), True)
    (tmp_path / "go").touch()
    wait_until(lambda: machine.runner.status(job).hosts == ("127.0.0.1",))


def test_an_engine_gets_no_request_before_it_is_shut_off_from_the_store(
    machine: Machine, kube: Kube, node: ProcessNode, api: KubernetesApi, tmp_path: Path
):
    """Its pod starts open; once the weights are there it is shut off, and only then a host. Fetching again opens it."""
    fetches = f"import os, time\nwhile not os.path.exists('{tmp_path}/go'): time.sleep(0.1)\n"
    (tmp_path / "fetches.py").write_text(fetches)
    node.env, node.replaced = {"PYTHONPATH": str(tmp_path)}, {"services.inference.weights": "fetches"}
    job = server(machine, weights="model@0")
    wait_until(lambda: "weights to be fetched" in machine.runner.status(job).waiting)
    assert _is_open(kube, job)
    (tmp_path / "go").touch()
    wait_until(lambda: is_so(pods_of(kube, job)[0], "Ready"))
    api.fail_next(403, method="PATCH", path="/pods/")
    with pytest.raises(Denied, match="may not patch pods"):
        wait_until(lambda: machine.runner.status(job).hosts)
    assert _is_open(kube, job)
    wait_until(lambda: machine.runner.status(job).hosts)
    assert not _is_open(kube, job)
    [pod] = pods_of(kube, job)
    again = {"name": "weights", "state": {"running": {"startedAt": pod["metadata"]["creationTimestamp"]}}}
    kube.patch(PODS, f"{pod['metadata']['name']}/status", {"status": {"initContainerStatuses": [again]}})
    wait_until(lambda: not machine.runner.status(job).hosts)
    assert _is_open(kube, job)


def _is_open(kube: Kube, job: str) -> bool:
    [pod] = pods_of(kube, job)
    return pod["metadata"]["labels"].get(FETCHING_LABEL) == "true"


def test_what_is_at_stake_is_written_on_all_of_its_pods(machine: Machine, kube: Kube):
    job = machine.submit(SLEEP, nodes=2)
    machine.wait(job, JobState.RUNNING)

    def costs() -> list[str | None]:
        return [pod["metadata"]["annotations"].get(COST_ANNOTATION) for pod in pods_of(kube, job)]

    assert costs() == [None, None]
    for gpu_seconds, cost in ((3600, 2**27), (30 * 3600, 2**31 - 1), (0, 0)):
        machine.runner.note_at_stake(job, gpu_seconds)
        assert costs() == [str(cost)] * 2
    machine.runner.cancel(job, grace_s=0)
    machine.runner.note_at_stake(job, 1)  # nobody is left to be told


def test_weights_that_are_wrong_are_not_fetched_again(machine: Machine):
    job = server(machine, weights="nobody@0")
    status = machine.wait(job)
    assert (status.state, status.exit_code) == (JobState.FAILED, 2)
    assert "its weights could not be fetched" in status.reason
    assert "nobody" in machine.runner.logs(job)


def test_another_namespace_has_other_jobs(machine: Machine, core: client.CoreV1Api):
    job = machine.submit(SLEEP)
    core.create_namespace({"metadata": {"name": "other"}})
    elsewhere = replace(machine.settings, cluster=machine.settings.cluster.with_name("other.yaml"))
    elsewhere.cluster.write_text(json.dumps({**CLUSTER, "namespace": "other"}))
    with pytest.raises(NotFound, match="namespace other"):
        open_runner(replace(elsewhere, store=f"{elsewhere.store}-2")).status(job)
