"""What controllers share: the pods that an object owns, made and deleted for it; events; conditions."""

from collections.abc import Iterable

from tests.fakes.kubernetes_api.objects import Objects, now, random_suffix
from tests.fakes.kubernetes_api.refusals import Json, Refused
from tests.fakes.kubernetes_api.resources import EVENTS, PODS, Resource

TRACKED = "batch.kubernetes.io/job-tracking"  # finalizer: the pod stays until its job has counted it


def owner_reference(owner: Json) -> Json:
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def owned(objects: Objects, resource: Resource, owner: Json) -> list[Json]:
    uid = owner["metadata"]["uid"]
    return [each for each in objects.store.all_of(resource, owner["metadata"]["namespace"]) if uid in owner_uids(each)]


def owner_uids(each: Json) -> list[str]:
    return [reference["uid"] for reference in each["metadata"].get("ownerReferences") or []]


def make_pod(objects: Objects, owner: Json, template: Json, name: str = "", finalizers: Iterable[str] = ()) -> None:
    """What cannot be made is told as an event, once, in the real controller's words."""
    metadata = {
        **(template.get("metadata") or {}),
        "name": name or f"{owner['metadata']['name']}-{random_suffix()}",
        "ownerReferences": [owner_reference(owner)],
        "finalizers": list(finalizers),
    }
    try:
        objects.create(PODS, owner["metadata"]["namespace"], {"metadata": metadata, "spec": template["spec"]})
    except Refused as refused:
        record(objects, owner, "FailedCreate", f"Error creating: {refused.message}")


def delete_pods(objects: Objects, pods: Iterable[Json]) -> None:
    for pod in pods:
        if not pod["metadata"].get("deletionTimestamp"):
            objects.delete(PODS, pod, {"propagationPolicy": "Background"})


def is_over(pod: Json) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def is_ready(pod: Json) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def condition(type_: str, reason: str, message: str, is_so: bool = True) -> Json:
    stamp = now()
    return {
        "type": type_,
        "status": "True" if is_so else "False",
        "reason": reason,
        "message": message,
        "lastProbeTime": stamp,
        "lastTransitionTime": stamp,
    }


def with_condition(conditions: list[Json], new: Json) -> list[Json]:
    """A condition that says the same as before keeps its times."""
    said = ("status", "reason", "message")
    for old in conditions:
        if old["type"] == new["type"] and all(old.get(field) == new[field] for field in said):
            return conditions
    return [*(old for old in conditions if old["type"] != new["type"]), new]


def set_status(objects: Objects, resource: Resource, each: Json, status: Json) -> Json:
    fresh = objects.store.get(resource, each["metadata"].get("namespace", ""), each["metadata"]["name"])
    return objects.replace(resource, fresh, {"status": status}, "status")


def record(objects: Objects, about: Json, reason: str, message: str, type_: str = "Warning") -> None:
    """An event, unless it was told of this object already."""
    metadata = about["metadata"]
    namespace = metadata.get("namespace", "default")
    for event in objects.store.all_of(EVENTS, namespace):
        told = (event["involvedObject"]["uid"], event["reason"], event["message"])
        if told == (metadata["uid"], reason, message):
            return
    involved = {
        "kind": about["kind"],
        "apiVersion": about["apiVersion"],
        "namespace": namespace,
        "name": metadata["name"],
        "uid": metadata["uid"],
    }
    event = {
        "metadata": {"generateName": f"{metadata['name']}."},
        "involvedObject": involved,
        "type": type_,
        "reason": reason,
        "message": message,
        "count": 1,
        "firstTimestamp": now(),
        "lastTimestamp": now(),
    }
    objects.create(EVENTS, namespace, event)
