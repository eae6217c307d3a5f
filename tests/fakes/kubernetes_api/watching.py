"""A watch: what happens to objects from a revision on, as lines of JSON, until its time is over or it is dropped."""

import json
import time
from collections.abc import Callable, Iterator

from tests.fakes.kubernetes_api.refusals import Json, Refused
from tests.fakes.kubernetes_api.resources import Resource
from tests.fakes.kubernetes_api.selectors import Selection
from tests.fakes.kubernetes_api.store import Event, Store

BOOKMARK_EVERY_S = 5.0


class Dropped(Exception):
    """The connection breaks in the middle, as when a proxy or the server dies."""


def watch(
    store: Store, resource: Resource, namespace: str, query: dict[str, str], is_dropped: Callable[[], bool]
) -> Iterator[bytes]:
    selection = Selection.of(query)
    until = time.monotonic() + float(query.get("timeoutSeconds") or 1800)
    has_bookmarks = query.get("allowWatchBookmarks") == "true"
    revision = int(query.get("resourceVersion") or 0)
    try:
        if revision == 0:
            with store.changed:
                revision = store.revision
                there = [each for each in store.all_of(resource, namespace) if selection.takes(each)]
            yield from (_line("ADDED", each) for each in there)
        bookmark_at = time.monotonic() + BOOKMARK_EVERY_S
        while time.monotonic() < until:
            if is_dropped():
                raise Dropped
            with store.changed:
                events = store.since(resource, revision)
                if not events:
                    store.changed.wait(min(0.2, max(0.0, until - time.monotonic())))
                    events = store.since(resource, revision)
                revision = store.revision
            yield from (_line(*told) for event in events if (told := _told(event, namespace, selection)))
            if has_bookmarks and time.monotonic() > bookmark_at:
                bookmark_at = time.monotonic() + BOOKMARK_EVERY_S
                yield _bookmark(resource, revision)
        if has_bookmarks:
            yield _bookmark(resource, revision)
    except Refused as refused:
        yield _line("ERROR", refused.status())


def _told(event: Event, namespace: str, selection: Selection) -> tuple[str, Json] | None:
    """What this watcher hears of it: coming into the selection is ADDED, leaving it DELETED."""
    if namespace and event.object["metadata"].get("namespace") != namespace:
        return None
    is_in = event.type != "DELETED" and selection.takes(event.object)
    was_in = event.previous is not None and selection.takes(event.previous)
    if not is_in and not was_in:
        return None
    return ("MODIFIED" if is_in and was_in else "ADDED" if is_in else "DELETED"), event.object


def _bookmark(resource: Resource, revision: int) -> bytes:
    metadata = {"resourceVersion": str(revision)}
    return _line("BOOKMARK", {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata})


def _line(type_: str, each: Json) -> bytes:
    return json.dumps({"type": type_, "object": each}).encode() + b"\n"
