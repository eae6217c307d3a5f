"""What the API server does to a new object before it is stored: defaults, quotas, priority classes."""

import copy
from collections import Counter
from itertools import count

from tests.fakes.kubernetes_api import refusals
from tests.fakes.kubernetes_api.quantities import amount, requests
from tests.fakes.kubernetes_api.refusals import Json
from tests.fakes.kubernetes_api.resources import (
    CRDS,
    DEPLOYMENTS,
    JOBS,
    NAMESPACES,
    PODS,
    PRIORITY_CLASSES,
    QUOTAS,
    REPLICA_SETS,
    Resource,
)
from tests.fakes.kubernetes_api.store import Store

UNIQUE = "batch.kubernetes.io/controller-uid"
POD_DEFAULTS = {
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst",
    "schedulerName": "default-scheduler",
    "serviceAccountName": "default",
    "enableServiceLinks": True,
}
JOB_DEFAULTS = {"backoffLimit": 6, "completionMode": "NonIndexed", "suspend": False, "manualSelector": False}
addresses = count(1)


def with_defaults(resource: Resource, asked: Json) -> Json:
    """For an object that has its metadata (name, uid) already."""
    made = copy.deepcopy(asked)
    spec = made.get("spec")
    if spec is not None:
        made["metadata"]["generation"] = 1
    if resource == PODS and spec is not None:
        made["spec"] = {**POD_DEFAULTS, **spec}
        made["status"] = {"phase": "Pending", "qosClass": "Burstable"}
    elif resource == JOBS and spec is not None:
        made["spec"] = _job(made, spec)
        made["status"] = {}
    elif resource in (DEPLOYMENTS, REPLICA_SETS) and spec is not None:
        made["spec"] = {"replicas": 1, **spec}
        made["status"] = {}
    elif resource == NAMESPACES:
        made["spec"], made["status"] = {"finalizers": ["kubernetes"]}, {"phase": "Active"}
    elif resource == CRDS:
        made["status"] = {"conditions": [{"type": "Established", "status": "True", "reason": "InitialNamesAccepted"}]}
    elif resource.plural == "services" and spec is not None:
        made["spec"] = {"type": "ClusterIP", "clusterIP": f"10.96.0.{next(addresses)}", **spec}
    return made


def _job(made: Json, asked: Json) -> Json:
    spec = {**JOB_DEFAULTS, "parallelism": 1, **asked}
    if asked.get("completions") is None and asked.get("parallelism") is None:
        spec["completions"] = 1
    uid, name = made["metadata"]["uid"], made["metadata"]["name"]
    ours = {UNIQUE: uid, "batch.kubernetes.io/job-name": name, "controller-uid": uid, "job-name": name}
    metadata = spec["template"].get("metadata") or {}
    labelled = {**metadata, "labels": {**(metadata.get("labels") or {}), **ours}}
    return {
        **spec,
        "selector": {"matchLabels": {UNIQUE: uid}},
        "template": {**spec["template"], "metadata": labelled},
    }


def check_allowed(store: Store, resource: Resource, made: Json) -> None:
    """Raises 403 for what a quota or a missing priority class forbids."""
    name = made["metadata"]["name"]
    wanted = (made.get("spec") or {}).get("priorityClassName") if resource == PODS else None
    if wanted and store.find(PRIORITY_CLASSES, "", wanted) is None:
        raise refusals.forbidden("pods", name, f"no PriorityClass with name {wanted} was found")
    if not resource.is_namespaced or resource == QUOTAS:
        return
    namespace = made["metadata"]["namespace"]
    for quota in store.all_of(QUOTAS, namespace):
        hard = {key: amount(value) for key, value in (quota["spec"].get("hard") or {}).items()}
        asked = {key: value for key, value in _counted(resource, made).items() if key in hard}
        used = used_of(store, namespace)
        over = [key for key, value in asked.items() if used[key] + value > hard[key]]
        if over:
            sides = (("requested", asked), ("used", used), ("limited", hard))
            said = ", ".join(f"{word}: {','.join(f'{k}={side[k]:g}' for k in over)}" for word, side in sides)
            raise refusals.forbidden(resource.long_name, name, f"exceeded quota: {quota['metadata']['name']}, {said}")


def used_of(store: Store, namespace: str) -> Counter[str]:
    """What the objects of a namespace count as, under every name that a quota may use."""
    total: Counter[str] = Counter()
    for resource, each in store.everything():
        if each["metadata"].get("namespace") == namespace:
            total += _counted(resource, each)
    return total


def _counted(resource: Resource, each: Json) -> Counter[str]:
    if resource == PODS and (each.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return Counter()
    counted: Counter[str] = Counter({f"count/{resource.long_name}": 1})
    if resource == PODS:
        counted["pods"] = 1
        for field in ("requests", "limits"):
            asked = requests(each["spec"], field)
            counted.update({f"{field}.{name}": value for name, value in asked.items()})
            if field == "requests":
                counted.update({name: value for name, value in asked.items() if name in ("cpu", "memory")})
    return counted
