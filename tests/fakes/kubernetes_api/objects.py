"""The verbs of the API on objects: create, get, list, replace, patch, delete, with the checks of a real server."""

import base64
import copy
import json
import random
import string
from datetime import UTC, datetime
from typing import Any

from tests.fakes.kubernetes_api import patches, refusals, selectors
from tests.fakes.kubernetes_api.admission import check_allowed, with_defaults
from tests.fakes.kubernetes_api.refusals import Json
from tests.fakes.kubernetes_api.resources import CRDS, JOBS, NAMESPACES, PODS, Resource, Resources
from tests.fakes.kubernetes_api.store import Store
from tests.fakes.kubernetes_api.validation import check

DELETION = ("deletionTimestamp", "deletionGracePeriodSeconds")
KEPT = ("uid", "creationTimestamp", "namespace", "name", "generation", *DELETION)
SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
ORPHAN, FOREGROUND = "orphan", "foregroundDeletion"


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def random_suffix() -> str:
    return "".join(random.choices(SUFFIX_LETTERS + string.digits[2:4], k=5))


class Objects:
    """Not locked: callers hold the store's lock, so that each verb is one step for everybody else."""

    def __init__(self, store: Store, resources: Resources) -> None:
        self.store = store
        self.resources = resources
        self.fields = patches.Fields()

    def create(self, resource: Resource, namespace: str, asked: Json, manager: str = "unknown") -> Json:
        made = {"apiVersion": resource.api_version, "kind": resource.kind, **copy.deepcopy(asked)}
        metadata = made["metadata"] = {**(made.get("metadata") or {})}
        name = metadata.get("name") or (metadata.get("generateName") or "") + random_suffix()
        self._check_place(resource, namespace, metadata)
        metadata.update(name=name, uid=self.store.new_uid(), creationTimestamp=now())
        if resource.is_namespaced:
            metadata["namespace"] = namespace
        made = with_defaults(resource, made)
        check(resource, made)
        if self.store.find(resource, namespace, name) is not None:
            raise refusals.already_exists(resource.long_name, name)
        check_allowed(self.store, resource, made)
        made = self.store.put(resource, made)
        self.fields.wrote(manager, metadata["uid"], {}, made)
        if resource == CRDS:
            self.resources.define(made)
        return made

    def list(self, resource: Resource, namespace: str, query: dict[str, str]) -> Json:
        chosen = selectors.Selection.of(query)
        items = [each for each in self.store.all_of(resource, namespace) if chosen.takes(each)]
        metadata: Json = {"resourceVersion": str(self.store.revision)}
        limit = int(query.get("limit") or 0)
        if query.get("continue"):
            token = json.loads(base64.b64decode(query["continue"]))
            if token["revision"] < self.store.compacted:
                raise refusals.expired(token["revision"], self.store.compacted)
            items = [each for each in items if _place(each) > token["after"]]
        if limit and len(items) > limit:
            token = {"revision": self.store.revision, "after": _place(items[limit - 1])}
            metadata["continue"] = base64.b64encode(json.dumps(token).encode()).decode()
            metadata["remainingItemCount"] = len(items) - limit
            items = items[:limit]
        return {
            "kind": f"{resource.kind}List",
            "apiVersion": resource.api_version,
            "metadata": metadata,
            "items": items,
        }

    def replace(self, resource: Resource, old: Json, asked: Json, part: str = "", manager: str = "unknown") -> Json:
        """`part` "status" changes the status only, "" all else. Raises 409 on another resourceVersion or uid."""
        metadata = asked.get("metadata") or {}
        for field, what in (("resourceVersion", ""), ("uid", "Precondition failed: UID in precondition")):
            if metadata.get(field) and metadata[field] != old["metadata"][field]:
                raise refusals.conflict(resource.long_name, old["metadata"]["name"], what)
        made = self._combined(resource, old, asked, part)
        if _without_version(made) == _without_version(old):
            return old
        check(resource, made, old)
        made = self.store.put(resource, made)
        self.fields.wrote(manager, made["metadata"]["uid"], old, made)
        if made["metadata"].get("deletionTimestamp"):
            self.finish(resource, made)
        return made

    def patch(self, resource: Resource, old: Json, patch: Any, content_type: str, part: str, manager: str) -> Json:
        if content_type.startswith("application/json-patch"):
            asked = patches.json_patch(old, patch)
        else:
            is_strategic = content_type.startswith("application/strategic") and resource.schema is None
            asked = patches.merge(old, patch, is_strategic)
        return self.replace(resource, old, asked, part, manager)

    def apply(self, resource: Resource, place: tuple[str, str], asked: Json, manager: str, is_forced: bool) -> Json:
        namespace, name = place
        old = self.store.find(resource, namespace, name)
        if old is None:
            return self.create(resource, namespace, asked, manager)
        return self.replace(resource, old, self.fields.apply(manager, old, asked, is_forced), "", manager)

    def delete(self, resource: Resource, old: Json, options: Json) -> Json:
        """Returns the object as it is now: gone, or with its deletionTimestamp. Raises 409 on a precondition."""
        for field, wanted in (options.get("preconditions") or {}).items():
            if wanted and old["metadata"].get(field) != wanted:
                why = f"Precondition failed: {field} in precondition: {wanted}, in object: {old['metadata'].get(field)}"
                raise refusals.conflict(resource.long_name, old["metadata"]["name"], why)
        policy = options.get("propagationPolicy") or ("Orphan" if resource == JOBS else "Background")
        finalizers = list(old["metadata"].get("finalizers") or [])
        extra = {"Orphan": ORPHAN, "Foreground": FOREGROUND}.get(policy)
        if extra and extra not in finalizers:
            finalizers.append(extra)
        grace = _grace(resource, old, options.get("gracePeriodSeconds"))
        metadata = {**old["metadata"], "finalizers": finalizers, "deletionGracePeriodSeconds": grace}
        metadata["deletionTimestamp"] = old["metadata"].get("deletionTimestamp") or now()
        if old["metadata"].get("deletionTimestamp"):
            granted = old["metadata"].get("deletionGracePeriodSeconds", grace)
            metadata["deletionGracePeriodSeconds"] = min(grace, granted)
        if not finalizers:
            del metadata["finalizers"]
        marked = {**old, "metadata": metadata}
        is_over = not finalizers and not grace and resource != NAMESPACES
        return self.finish(resource, marked) if is_over else self.store.put(resource, marked)

    def finish(self, resource: Resource, marked: Json) -> Json:
        """Takes it out of the store when nothing holds it back any more."""
        metadata = marked["metadata"]
        if metadata.get("finalizers") or metadata.get("deletionGracePeriodSeconds"):
            return marked
        if resource == CRDS:
            self.resources.forget(marked)
        return self.store.remove(resource, marked)

    def _check_place(self, resource: Resource, namespace: str, metadata: Json) -> None:
        if not resource.is_namespaced:
            return
        if metadata.get("namespace", namespace) != namespace:
            raise refusals.bad_request("the namespace of the provided object does not match the one of the request")
        home = self.store.get(NAMESPACES, "", namespace)
        if home["metadata"].get("deletionTimestamp"):
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            raise refusals.forbidden(resource.long_name, metadata.get("name", ""), why)

    def _combined(self, resource: Resource, old: Json, asked: Json, part: str) -> Json:
        if part == "status":
            return {**old, "status": asked.get("status") or {}}
        metadata = dict(asked.get("metadata") or {})
        metadata.update({field: old["metadata"][field] for field in KEPT if field in old["metadata"]})
        made = {**asked, "metadata": metadata, "apiVersion": resource.api_version, "kind": resource.kind}
        if resource.has_status and "status" in old:
            made["status"] = old["status"]
        if "spec" in made and made["spec"] != old.get("spec"):
            metadata["generation"] = old["metadata"].get("generation", 0) + 1
        return made


def _grace(resource: Resource, old: Json, asked: int | None) -> int:
    """Seconds that a node has to stop the pod; 0 when none runs it."""
    if resource != PODS or not old["spec"].get("nodeName"):
        return 0
    if (old.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return 0
    return old["spec"]["terminationGracePeriodSeconds"] if asked is None else asked


def _place(each: Json) -> list[str]:
    return [each["metadata"].get("namespace", ""), each["metadata"]["name"]]


def _without_version(each: Json) -> Json:
    return {**each, "metadata": {key: value for key, value in each["metadata"].items() if key != "resourceVersion"}}
