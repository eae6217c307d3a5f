"""The garbage collector, the namespace controller, and the quota controller."""

from tests.fakes.kubernetes_api.admission import used_of
from tests.fakes.kubernetes_api.objects import FOREGROUND, ORPHAN, Objects
from tests.fakes.kubernetes_api.owning import owner_uids, set_status
from tests.fakes.kubernetes_api.quantities import amount
from tests.fakes.kubernetes_api.refusals import Json
from tests.fakes.kubernetes_api.resources import CONFIG_MAPS, NAMESPACES, QUOTAS, SERVICE_ACCOUNTS, Resource


def collect(objects: Objects) -> None:
    """What owners leave behind: deleted with them, or set free, as their deletion asked."""
    everything = list(objects.store.everything())
    uids = {each["metadata"]["uid"] for _, each in everything}
    dependents: dict[str, list[tuple[Resource, Json]]] = {}
    for resource, each in everything:
        for uid in owner_uids(each):
            dependents.setdefault(uid, []).append((resource, each))
    for resource, each in everything:
        owners = owner_uids(each)
        if owners and not uids.intersection(owners):
            _delete(objects, resource, each)
        finalizers = each["metadata"].get("finalizers") or []
        if each["metadata"].get("deletionTimestamp") and {ORPHAN, FOREGROUND} & set(finalizers):
            _let_owner_go(objects, resource, each, dependents.get(each["metadata"]["uid"], []))


def look_after_namespaces(objects: Objects) -> None:
    for namespace in objects.store.all_of(NAMESPACES):
        name = namespace["metadata"]["name"]
        if not namespace["metadata"].get("deletionTimestamp"):
            _furnish(objects, name)
            continue
        left = [(kind, each) for kind, each in objects.store.everything() if each["metadata"].get("namespace") == name]
        for resource, each in left:
            _delete(objects, resource, each)
        if not left:
            objects.store.remove(NAMESPACES, namespace)


def count_quotas(objects: Objects) -> None:
    for quota in objects.store.all_of(QUOTAS):
        hard = quota["spec"].get("hard") or {}
        used = used_of(objects.store, quota["metadata"]["namespace"])
        status = {"hard": hard, "used": {name: _shown(used[name], hard[name]) for name in hard}}
        set_status(objects, QUOTAS, quota, status)


def _shown(used: float, hard: str | int) -> str:
    return f"{used:g}" if amount(hard) < 2**20 else f"{used:.0f}"


def _furnish(objects: Objects, name: str) -> None:
    if objects.store.find(SERVICE_ACCOUNTS, name, "default") is None:
        objects.create(SERVICE_ACCOUNTS, name, {"metadata": {"name": "default"}})
    if objects.store.find(CONFIG_MAPS, name, "kube-root-ca.crt") is None:
        objects.create(CONFIG_MAPS, name, {"metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": ""}})


def _delete(objects: Objects, resource: Resource, each: Json, policy: str = "Background") -> None:
    metadata = each["metadata"]
    fresh = objects.store.find(resource, metadata.get("namespace", ""), metadata["name"])
    if fresh and fresh["metadata"]["uid"] == metadata["uid"] and not fresh["metadata"].get("deletionTimestamp"):
        objects.delete(resource, fresh, {"propagationPolicy": policy})


def _let_owner_go(objects: Objects, resource: Resource, owner: Json, dependents: list[tuple[Resource, Json]]) -> None:
    metadata = owner["metadata"]
    if FOREGROUND in metadata["finalizers"]:
        for kind, each in dependents:
            _delete(objects, kind, each, "Foreground")
        if dependents:
            return
    else:
        for kind, each in dependents:
            kept = [ref for ref in each["metadata"]["ownerReferences"] if ref["uid"] != metadata["uid"]]
            objects.replace(kind, each, {**each, "metadata": {**each["metadata"], "ownerReferences": kept}})
    left = [name for name in metadata["finalizers"] if name not in (ORPHAN, FOREGROUND)]
    objects.replace(resource, owner, {**owner, "metadata": {**metadata, "finalizers": left}})
