"""What a job is made of in a cluster: pure functions from a JobSpec and the cluster's configuration to objects.

A training or import is a Job; one of several nodes is an Indexed Job and a headless Service through which its pods find
each other; a server is a Deployment and a Service. The Job or Deployment owns everything else. Batch/v1 and apps/v1
only: queues are labels, which mean nothing where there is no Kueue.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict

from lrm_safety.errors import InvalidInput
from lrm_safety.jobs import JOB_ID, JobSpec
from lrm_safety.jobs.cluster_config import ClusterConfig, Pool
from lrm_safety.jobs.kube import Object
from lrm_safety.jobs.pod_template import CONTAINER, pod_spec
from lrm_safety.settings import PRIORITIES, Settings

LONGEST_NAME = 63
EXIT_INVALID_INPUT = 65  # of our workers: the input is wrong, and another attempt would be too
JOB_LABEL, INSTANCE_LABEL = "lrm-safety/job", "app.kubernetes.io/instance"
QUEUE_LABEL, QUEUE_PRIORITY_LABEL = "kueue.x-k8s.io/queue-name", "kueue.x-k8s.io/priority-class"
SPEC_ANNOTATION = "lrm-safety/spec"
FETCHING_LABEL = "lrm-safety/fetching"  # "true" on an engine's pod while the network lets it reach the store
COST_ANNOTATION = "controller.kubernetes.io/pod-deletion-cost"
COST_OF_A_POD, HIGHEST_COST = 2**27, 2**31 - 1  # as Karpenter weighs it; as the API server takes it


def owner(spec: JobSpec, config: ClusterConfig, settings: Settings) -> Object:
    """The Job, or for a server the Deployment. Raises InvalidInput for a job that this cluster can never run."""
    check(spec, config)
    fetching = {FETCHING_LABEL: "true"} if spec.port and spec.weights else {}
    pod = {
        "metadata": {"labels": labels(spec, config) | fetching},
        "spec": pod_spec(spec, config, pool_of(spec, config), settings),
    }
    return _deployment(spec, config, pod) if spec.port else _job(spec, config, pod)


def service(spec: JobSpec, config: ClusterConfig, owned_by: Object) -> Object | None:
    """What pods are found by; None for a job of one node. `owned_by` is the owner as the API server returned it."""
    if not spec.port and spec.nodes == 1:
        return None
    metadata = {**_metadata(spec, config), "ownerReferences": [_reference(owned_by)]}
    selector = {JOB_LABEL: spec.id}
    if spec.port:
        wanted: Object = {"selector": selector, "ports": [{"name": "http", "port": spec.port, "targetPort": spec.port}]}
    else:
        wanted = {"selector": selector, "clusterIP": "None", "publishNotReadyAddresses": True}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": wanted}


def pool_of(spec: JobSpec, config: ClusterConfig) -> Pool:
    """Raises InvalidInput for a pool that does not exist."""
    default = config.engine_pool if spec.port or spec.image == "engine" else config.training_pool
    return config.pool(spec.node_pool or default)


def digest(spec: JobSpec) -> str:
    """Whether two jobs are the same: sha256 of the whole spec."""
    return hashlib.sha256(json.dumps(asdict(spec), sort_keys=True).encode()).hexdigest()


def labels(spec: JobSpec, config: ClusterConfig) -> dict[str, str]:
    named = {
        "app.kubernetes.io/name": "lrm-safety",
        INSTANCE_LABEL: config.release,
        "app.kubernetes.io/component": "engine" if spec.port else "job",
        "app.kubernetes.io/managed-by": "lrm-safety",
        JOB_LABEL: spec.id,
        "lrm-safety/run": spec.run,
        "lrm-safety/kind": spec.kind,
        "lrm-safety/team": spec.team,
        "lrm-safety/cost-centre": spec.cost_centre,
        "lrm-safety/priority": spec.priority,
    }
    return {name: value for name, text in named.items() if (value := label_value(text))}


def deletion_cost(gpu_seconds: float) -> str:
    """COST_ANNOTATION for a pod with so much work at stake: one GPU-hour counts like one more pod on its node."""
    return str(min(HIGHEST_COST, round(gpu_seconds / 3600 * COST_OF_A_POD)))


def label_value(text: str) -> str:
    """The text as far as a label may hold it."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:LONGEST_NAME].strip("-_.")


def check(spec: JobSpec, config: ClusterConfig) -> None:
    """Raises InvalidInput naming every field that cannot be, its value, and what is allowed."""
    pool = pool_of(spec, config)
    room = LONGEST_NAME - len(f"-{spec.nodes - 1}")
    wrong = {
        "id": not JOB_ID.fullmatch(spec.id) and f"is {spec.id!r}; expected at most 63 of a-z, 0-9 and '-'",
        "id of a job of several nodes": spec.nodes > 1
        and len(spec.id) > room
        and f"is {spec.id!r}; at most {room} characters leave room for the number of the node",
        "command": not (spec.command and all(spec.command[:1])) and "is empty; expected a program and its arguments",
        "image": spec.image not in config.images
        and f"is {spec.image!r}; this cluster has {', '.join(sorted(config.images))}",
        "weights": bool(spec.weights and "service" not in config.images) and "need the image service to be fetched",
        "priority": spec.priority not in PRIORITIES and f"is {spec.priority!r}; expected {', '.join(PRIORITIES)}",
        "cpus": spec.cpus > pool.cpus and f"is {spec.cpus:g}; a node of its pool has {pool.cpus:g}",
        "memory_gib": spec.memory_gib > pool.memory_gib
        and f"is {spec.memory_gib:g}; a node of its pool has {pool.memory_gib:g}",
        "gpus": spec.gpus > pool.gpus and f"is {spec.gpus}; a node of its pool has {pool.gpus}",
        "cpus, memory_gib or gpus": min(spec.cpus, spec.memory_gib, spec.gpus) < 0 and "is negative",
        "nodes or replicas": min(spec.nodes, spec.replicas) < 1 and "is less than 1",
        "nodes of a server": bool(spec.port and spec.nodes > 1) and f"is {spec.nodes}; a replica of a server has one",
        "port": not 0 <= spec.port < 65536 and f"is {spec.port}; expected 1 to 65535, or 0 for none",
    }
    if found := [f"{name} {problem}" for name, problem in wrong.items() if problem]:
        raise InvalidInput(f"job {spec.id!r} cannot run in this cluster: {'; '.join(found)}")


def _job(spec: JobSpec, config: ClusterConfig, pod: Object) -> Object:
    wanted: Object = {
        "backoffLimit": 0,
        "activeDeadlineSeconds": config.deadline_s,
        "podFailurePolicy": {"rules": _pod_failures(spec)},
        "parallelism": spec.nodes,
        "completions": spec.nodes,
        "template": pod,
    }
    if spec.nodes > 1:
        wanted["completionMode"] = "Indexed"
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": _queued(spec, config), "spec": wanted}


def _pod_failures(spec: JobSpec) -> list[Object]:
    """Wrong input ends the job. A disruption does not, where one pod is the whole job: the next pod goes on at the last
    resume point. With several nodes it does: the others lost their rendezvous, and all start anew as the next attempt.
    """
    wrong_input = {"containerName": CONTAINER, "operator": "In", "values": [EXIT_INVALID_INPUT]}
    # the empty list means nothing, but older schemas ask for it
    rules: list[Object] = [{"action": "FailJob", "onExitCodes": wrong_input, "onPodConditions": []}]
    if spec.nodes == 1:
        disrupted = [{"type": "DisruptionTarget", "status": "True"}]
        rules.append({"action": "Ignore", "onPodConditions": disrupted})
    return rules


def _deployment(spec: JobSpec, config: ClusterConfig, pod: Object) -> Object:
    wanted = {
        "replicas": spec.replicas,
        "selector": {"matchLabels": {JOB_LABEL: spec.id}},
        "strategy": {"type": "Recreate"},  # GPUs are not there twice
        "revisionHistoryLimit": 0,
        "template": pod,
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": _queued(spec, config), "spec": wanted}


def _metadata(spec: JobSpec, config: ClusterConfig) -> Object:
    annotations = {SPEC_ANNOTATION: digest(spec)}
    return {"name": spec.id, "namespace": config.namespace, "labels": labels(spec, config), "annotations": annotations}


def _queued(spec: JobSpec, config: ClusterConfig) -> Object:
    """Metadata of what Kueue admits as a whole."""
    made = _metadata(spec, config)
    if queue := config.queues.get(spec.team, config.queue):
        queued: Mapping[str, str] = {
            QUEUE_LABEL: queue,
            QUEUE_PRIORITY_LABEL: config.workload_priority_classes.get(spec.priority, ""),
        }
        made["labels"] |= {name: value for name, value in queued.items() if value}
    return made


def _reference(owned_by: Object) -> Object:
    named = owned_by["metadata"]
    kind = {"apiVersion": owned_by["apiVersion"], "kind": owned_by["kind"]}
    return {**kind, "name": named["name"], "uid": named["uid"], "controller": True}
