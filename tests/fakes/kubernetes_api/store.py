"""What etcd is to the API server: objects under one revision counter, a history to watch, compaction.

Objects in the store are never changed in place: a writer puts a new one. So a reader may keep what it got.
"""

import bisect
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from tests.fakes.kubernetes_api import refusals
from tests.fakes.kubernetes_api.refusals import Json
from tests.fakes.kubernetes_api.resources import Resource

FIRST_REVISION = 1000  # so that resourceVersion "1" was compacted long ago, as in a cluster that has lived
Key = tuple[str, str]  # namespace ("" for the cluster's own), name


@dataclass(frozen=True)
class Event:
    revision: int
    type: str  # ADDED | MODIFIED | DELETED
    resource: Resource
    object: Json
    previous: Json | None = None


class Store:
    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())  # guards everything; rings on every write
        self.revision = FIRST_REVISION
        self.compacted = FIRST_REVISION
        self._objects: dict[Resource, dict[Key, Json]] = {}
        self._history: list[Event] = []
        self._uids, self._life = count(1), str(uuid.uuid4()).rpartition("-")[0]

    def get(self, resource: Resource, namespace: str, name: str) -> Json:
        """Raises 404."""
        found = self.find(resource, namespace, name)
        if found is None:
            raise refusals.not_found(resource.long_name, name)
        return found

    def find(self, resource: Resource, namespace: str, name: str) -> Json | None:
        with self.changed:
            return self._objects.get(resource, {}).get((namespace if resource.is_namespaced else "", name))

    def all_of(self, resource: Resource, namespace: str = "") -> list[Json]:
        """In the order of their keys; without a namespace, of all."""
        with self.changed:
            items = sorted(self._objects.get(resource, {}).items())
        return [each for (place, _), each in items if not namespace or place == namespace]

    def everything(self) -> Iterator[tuple[Resource, Json]]:
        with self.changed:
            pairs = [(resource, each) for resource, objects in self._objects.items() for each in objects.values()]
        return iter(pairs)

    def new_uid(self) -> str:
        """Like no other of this machine: by it a process node tells its pods' processes from those of other tests."""
        return f"{self._life}-{next(self._uids):012x}"

    def put(self, resource: Resource, made: Json) -> Json:
        """Writes the object with its new resourceVersion; returns it so."""
        with self.changed:
            key = _key(resource, made)
            objects = self._objects.setdefault(resource, {})
            previous = objects.get(key)
            made = self._stamped(made)
            objects[key] = made
            self._tell(Event(self.revision, "MODIFIED" if previous else "ADDED", resource, made, previous))
            return made

    def remove(self, resource: Resource, gone: Json) -> Json:
        with self.changed:
            previous = self._objects[resource].pop(_key(resource, gone))
            last = self._stamped(previous)
            self._tell(Event(self.revision, "DELETED", resource, last, previous))
            return last

    def since(self, resource: Resource, revision: int) -> list[Event]:
        """What happened to such objects after the revision. Raises 410 when that was compacted."""
        with self.changed:
            if revision < self.compacted:
                raise refusals.expired(revision, self.compacted)
            start = bisect.bisect_right(self._history, revision, key=lambda event: event.revision)
            return [event for event in self._history[start:] if event.resource == resource]

    def compact(self) -> None:
        with self.changed:
            self.compacted = self.revision
            self._history.clear()
            self.changed.notify_all()

    def _stamped(self, made: Json) -> Json:
        self.revision += 1
        return {**made, "metadata": {**made["metadata"], "resourceVersion": str(self.revision)}}

    def _tell(self, event: Event) -> None:
        self._history.append(event)
        self.changed.notify_all()


def _key(resource: Resource, made: Json) -> Key:
    return (made["metadata"]["namespace"] if resource.is_namespaced else "", made["metadata"]["name"])
