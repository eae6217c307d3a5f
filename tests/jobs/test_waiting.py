"""For what a job waits, in words, from status objects as real clusters show them."""

from decimal import Decimal
from typing import Any

import pytest

from lrm_safety.jobs.quantity import amount
from lrm_safety.jobs.waiting import Seen, why

Object = dict[str, Any]
REQUESTS = {"cpu": "8", "memory": "65536Mi", "nvidia.com/gpu": "2"}
TEMPLATE = {"spec": {"containers": [{"name": "job", "resources": {"requests": REQUESTS}}]}}
STARTED = {"running": {"startedAt": "2026-11-21T18:00:00Z"}}


def job(queue: str = "", **spec: object) -> Object:
    labels = {"kueue.x-k8s.io/queue-name": queue} if queue else {}
    metadata = {"name": "training-1", "namespace": "lrm", "labels": labels}
    return {"kind": "Job", "metadata": metadata, "spec": {"completions": 1, "template": TEMPLATE, **spec}}


def deployment() -> Object:
    return {**job(replicas=1), "kind": "Deployment"}


def pod(*containers: Object, node: str = "gpu-1", index: str = "", **status: object) -> Object:
    spec: Object = {"containers": TEMPLATE["spec"]["containers"], "nodeSelector": {"accelerator": "h200"}}
    if node:
        spec["nodeName"] = node
    annotations = {"batch.kubernetes.io/job-completion-index": index} if index else {}
    scheduled = {"conditions": [{"type": "PodScheduled", "status": "True"}]} if node else {}
    return {
        "metadata": {"name": f"training-1-{index}x", "namespace": "lrm", "annotations": annotations},
        "spec": spec,
        "status": {"phase": "Pending", **scheduled, "containerStatuses": list(containers), **status},
    }


def unschedulable(message: str, reason: str = "Unschedulable", **status: object) -> Object:
    condition = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
    return pod(node="", conditions=[condition], **status)


def container(state: Object, name: str = "job", **more: object) -> Object:
    return {"name": name, "image": "ghcr.io/lrm/worker:9", "state": state, "restartCount": 0, **more}


def waits(reason: str, message: str = "", name: str = "job", **more: object) -> Object:
    return container({"waiting": {"reason": reason, "message": message}}, name, **more)


def workload(message: str, **evicted: str) -> Object:
    conditions = [{"type": "QuotaReserved", "status": "False", "reason": "Pending", "message": message}]
    conditions += [{"type": "Evicted", "status": "True", **evicted}] if evicted else []
    return {"metadata": {"name": "job-training-1-0a1b2"}, "status": {"conditions": conditions}}


def quota(hard: Object, used: Object) -> Object:
    return {"metadata": {"name": "team"}, "status": {"hard": hard, "used": used}}


INIT = {"initContainerStatuses": [container(STARTED, "weights")]}
SITUATIONS = {
    "all GPUs are in use": (
        Seen(job(), [unschedulable("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.")]),
        "for 2 nvidia.com/gpu: 3 nodes have too little nvidia.com/gpu free; it starts when other work ends or such a "
        "node is added",
    ),
    "several things are short": (
        Seen(
            job(),
            [
                unschedulable(
                    "0/4 nodes are available: 1 Insufficient cpu, 1 Insufficient memory, 2 node(s) had untolerated "
                    "taint {node.kubernetes.io/disk-pressure: }. preemption: 0/4 nodes are available: 2 No preemption "
                    "victims found for incoming pod, 2 Preemption is not helpful for scheduling."
                )
            ],
        ),
        "for 8 cpu and 65536Mi memory: 1 node has too little cpu free, 1 node has too little memory free; 2 nodes do "
        "not take it for their taint node.kubernetes.io/disk-pressure; it starts when other work ends or such a node "
        "is added",
    ),
    "no node of the pool": (
        Seen(job(), [unschedulable("0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.")]),
        "for a node that may take it: 2 nodes do not have the labels accelerator=h200; mend the pool in the cluster's "
        "configuration, or add such nodes",
    ),
    "no node of the pool, in the words of 1.20": (
        Seen(job(), [unschedulable("0/1 nodes are available: 1 node(s) didn't match node selector.")]),
        "for a node that may take it: 1 node does not have the labels accelerator=h200; mend the pool in the cluster's "
        "configuration, or add such nodes",
    ),
    "a taint that the pool does not tolerate": (
        Seen(
            job(),
            [unschedulable("0/1 nodes are available: 1 node(s) had untolerated taint {nvidia.com/gpu: present}.")],
        ),
        "for a node that may take it: 1 node does not take it for their taint nvidia.com/gpu: present; mend the pool "
        "in the cluster's configuration, or add such nodes",
    ),
    "a cluster without nodes": (
        Seen(job(), [unschedulable("no nodes available to schedule pods")]),
        "for a node that may take it: no nodes available to schedule pods; mend the pool in the cluster's "
        "configuration, or add such nodes",
    ),
    "room is being made": (
        Seen(job(), [unschedulable("0/1 nodes are available: 1 Insufficient cpu.", nominatedNodeName="gpu-7")]),
        "for node gpu-7, where work of lower priority is being stopped to make room",
    ),
    "the model cache does not exist": (
        Seen(deployment(), [unschedulable('0/1 nodes are available: persistentvolumeclaim "models" not found.')]),
        'for its volume (0/1 nodes are available: persistentvolumeclaim "models" not found.); check model_cache of the '
        "pool in the cluster's configuration",
    ),
    "the scheduler has not looked yet": (Seen(job(), [pod(node="")]), "for the scheduler to choose a node"),
    "an image that cannot be pulled": (
        Seen(job(), [pod(waits("ImagePullBackOff", 'Back-off pulling image "ghcr.io/lrm/worker:9"'))]),
        "for its image ghcr.io/lrm/worker:9, which its node cannot pull (Back-off pulling image "
        '"ghcr.io/lrm/worker:9"); check the name, '
        "and image_pull_secrets of the cluster's configuration",
    ),
    "a Secret that is missing": (
        Seen(job(), [pod(waits("CreateContainerConfigError", 'secret "lrm-safety-store" not found'))]),
        'for its container to be configured (secret "lrm-safety-store" not found); check Secrets and env_from of the '
        "cluster",
    ),
    "an image of gigabytes": (
        Seen(job(), [pod(waits("ContainerCreating"))]),
        "for node gpu-1 to fetch its image and start it; if that takes long: kubectl -n lrm describe pod training-1-x",
    ),
    "the weights are fetched": (
        Seen(deployment(), [pod(waits("PodInitializing"), **INIT)]),
        "for its weights to be fetched from the store and verified",
    ),
    "the weights could not be fetched": (
        Seen(
            deployment(),
            [
                pod(
                    waits("PodInitializing"),
                    initContainerStatuses=[
                        waits(
                            "CrashLoopBackOff",
                            name="weights",
                            lastState={"terminated": {"exitCode": 1}},
                            restartCount=2,
                        )
                    ],
                )
            ],
        ),
        "to be started again: its weights ended with exit code 1 (2 restarts)",
    ),
    "the engine loads": (
        Seen(deployment(), [pod(container(STARTED))]),
        "for its engine to load the weights (GET /health does not answer yet)",
    ),
    "its turn in a queue": (
        Seen(
            job("team-a", suspend=True),
            workloads=[
                workload(
                    "couldn't assign flavors to pod set main: insufficient unused quota for nvidia.com/gpu in flavor "
                    "h200, 2 more needed."
                )
            ],
        ),
        "in queue team-a: couldn't assign flavors to pod set main: insufficient unused quota for nvidia.com/gpu in "
        "flavor h200, 2 more needed; it starts when other work of the queue ends; priority: urgent goes first",
    ),
    "a queue that does not exist": (
        Seen(job("team-b", suspend=True), workloads=[workload("LocalQueue team-b doesn't exist")]),
        "in queue team-b: LocalQueue team-b doesn't exist; have the cluster's administrators mend queue team-b, or set "
        "another in the cluster's configuration",
    ),
    "it lost its place in the queue": (
        Seen(
            job("team-a", suspend=True),
            workloads=[workload("The workload has been preempted", reason="Preempted")],
        ),
        "in queue team-a: it lost its place to work of higher priority; The workload has been preempted; it starts "
        "when other work of the queue ends; priority: urgent goes first",
    ),
    "a queue whose workloads we may not read": (Seen(job("team-a", suspend=True)), "in queue team-a for its turn"),
    "the namespace's quota": (
        Seen(job(), quotas=[quota({"requests.nvidia.com/gpu": "8", "cpu": "100"}, {"requests.nvidia.com/gpu": "7"})]),
        "for quota team of its namespace: 7 of 8 requests.nvidia.com/gpu are used and it asks for 2; it starts when "
        "other work ends, or the quota is raised",
    ),
    "no pods, and nobody says why": (
        Seen(job(), quotas=[quota({"requests.memory": "1Ti"}, {"requests.memory": "1Gi"})]),
        "for the cluster to make its pods; if that takes minutes, a quota or rule of namespace lrm refuses them: "
        "kubectl -n lrm describe job training-1",
    ),
    "one of two nodes": (
        Seen(
            job(completions=2),
            [
                pod(container(STARTED), index="0"),
                {
                    **unschedulable("0/2 nodes are available: 2 Insufficient nvidia.com/gpu."),
                    "metadata": {"name": "b", "annotations": {"batch.kubernetes.io/job-completion-index": "1"}},
                },
            ],
        ),
        "for all of its 2 nodes (1 ready): for 2 nvidia.com/gpu: 2 nodes have too little nvidia.com/gpu free; it "
        "starts when other work ends or such a node is added",
    ),
    "nothing": (Seen(job(), [pod(container(STARTED))]), ""),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_words(situation: str) -> None:
    seen, words = SITUATIONS[situation]
    assert why(seen) == words


def test_quantities() -> None:
    given = {"500m": "0.5", "2": "2", "4Gi": 2**32, "1Ti": 2**40, "1k": 1000, "1536Mi": 1.5 * 2**30, 3: 3}
    assert {text: amount(text) for text in given} == {text: Decimal(value) for text, value in given.items()}
    for wrong in ("many", "5 apples", ""):
        with pytest.raises(ValueError):
            amount(wrong)
