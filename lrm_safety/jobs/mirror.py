"""A resource of the cluster as a watch tells of it, so that looking at a job, twice a second, costs no request.

It lists, watches from there, and lists again when the server has forgotten that point (410). While the watch is not
connected the mirror shows nothing, and whoever looks asks the API server.
"""

import threading
from collections.abc import Callable

from lrm_safety import observe
from lrm_safety.errors import LrmError
from lrm_safety.jobs.kube import CONNECTED, ENDED, EXPIRED, Kube, Object, Resource

log = observe.logger(__name__)
REST_S = 0.2  # between two watches
PAUSE_S = 5.0  # after a failure, and before asking again for what RBAC does not grant


class Mirror:
    """Starts its thread at once. May be read from any thread."""

    def __init__(self, kube: Kube, resource: Resource, selector: str, told: Callable[[Object], None]) -> None:
        """`told` hears at once of each object that has changed; it must be quick."""
        self._kube, self._resource, self._selector, self._told = kube, resource, selector, told
        self._objects: dict[str, Object] = {}
        self._is_current = False
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        threading.Thread(target=self._run, name=f"mirror-{resource.plural}", daemon=True).start()

    def objects(self) -> list[Object] | None:
        """All there are, a moment ago; None while nobody knows."""
        with self._lock:
            return list(self._objects.values()) if self._is_current else None

    def stop(self) -> None:
        """At the next event, or within a minute."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                version = self._list()
                while version and not self._stopped.is_set():
                    version = self._watch(version)
                    self._stopped.wait(REST_S)
            except LrmError as error:
                log.warning("watch_failed", resource=self._resource.plural, error=str(error))
                self._stopped.wait(PAUSE_S)

    def _list(self) -> str:
        listing = self._kube.list(self._resource, self._selector)
        with self._lock:
            self._objects = {item["metadata"]["name"]: item for item in listing.items}
        return listing.version

    def _watch(self, version: str) -> str:
        """The version from which to go on; empty when that is too old."""
        try:
            for kind, item in self._kube.watch(self._resource, self._selector, version):
                if kind == EXPIRED:
                    return ""
                if kind not in (CONNECTED, ENDED):
                    version = item["metadata"]["resourceVersion"]
                self._note(kind, item)
                if kind == "MODIFIED":
                    self._told(item)
                if self._stopped.is_set():
                    break
        finally:
            with self._lock:
                self._is_current = False
        return version

    def _note(self, kind: str, item: Object) -> None:
        with self._lock:
            self._is_current = kind != ENDED
            if kind in ("ADDED", "MODIFIED"):
                self._objects[item["metadata"]["name"]] = item
            elif kind == "DELETED":
                self._objects.pop(item["metadata"]["name"], None)
