"""JSON patch, merge patch, strategic merge (lists of named things are merged by name), server-side apply."""

import copy
from collections.abc import Iterator
from typing import Any

from tests.fakes.kubernetes_api import refusals
from tests.fakes.kubernetes_api.refusals import Json

KEYS = {  # of the lists that a strategic merge patch merges
    "addresses": "type",
    "conditions": "type",
    "containers": "name",
    "env": "name",
    "initContainers": "name",
    "ownerReferences": "uid",
    "volumes": "name",
    "volumeMounts": "mountPath",
}
Path = tuple[str, ...]


def merge(old: Any, patch: Any, is_strategic: bool = False, name: str = "") -> Any:
    """RFC 7396; strategic as far as `KEYS` goes."""
    if is_strategic and isinstance(patch, list) and name in KEYS:
        return _merge_list(old or [], patch, KEYS[name])
    if not isinstance(patch, dict):
        return patch
    made = dict(old) if isinstance(old, dict) else {}
    for field, value in patch.items():
        if value is None:
            made.pop(field, None)
        else:
            made[field] = merge(made.get(field), value, is_strategic, field)
    return made


def _merge_list(old: list[Json], patch: list[Json], key: str) -> list[Json]:
    made = {each.get(key): each for each in old}
    for each in patch:
        if each.get("$patch") == "delete":
            made.pop(each.get(key), None)
        else:
            made[each.get(key)] = merge(made.get(each.get(key)), each, is_strategic=True)
    return list(made.values())


def json_patch(old: Json, operations: list[Json]) -> Json:
    """RFC 6902. Raises 422 when a path is not there or a test fails."""
    made = copy.deepcopy(old)
    for operation in operations:
        try:
            _operate(made, operation)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise refusals.invalid("", "", f"the server rejected our request: {operation}: {error}") from error
    return made


def _operate(made: Json, operation: Json) -> None:
    verb, path = operation["op"], _steps(operation["path"])
    if verb in ("move", "copy"):
        value = copy.deepcopy(_walk(made, _steps(operation["from"])))
        if verb == "move":
            _operate(made, {"op": "remove", "path": operation["from"]})
    else:
        value = operation.get("value")
    place, last = _walk(made, path[:-1]), path[-1]
    if verb == "test":
        if _walk(made, path) != value:
            raise ValueError("the test failed")
    elif isinstance(place, list):
        index = len(place) if last == "-" else int(last)
        if verb in ("remove", "replace"):
            place.pop(index)
        if verb != "remove":
            place.insert(index, value)
    elif verb == "remove" or (verb == "replace" and last not in place):
        del place[last]
    else:
        place[last] = value


def _steps(pointer: str) -> list[str]:
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]


def _walk(value: Any, steps: list[str]) -> Any:
    for step in steps:
        value = value[int(step)] if isinstance(value, list) else value[step]
    return value


class Fields:
    """Who set which field of an object last: what server-side apply asks before it changes one."""

    def __init__(self) -> None:
        self._owners: dict[str, dict[Path, str]] = {}  # by the object's uid

    def wrote(self, manager: str, uid: str, old: Json, new: Json) -> None:
        owners, before = self._owners.setdefault(uid, {}), dict(leaves(old))
        for path, value in leaves(new):
            if before.get(path) != value:
                owners[path] = manager

    def apply(self, manager: str, old: Json, wanted: Json, is_forced: bool) -> Json:
        """The object after the apply: wanted over old, without what this manager applied before and wants no more."""
        owners = self._owners.setdefault(old["metadata"]["uid"], {})
        before, asked = dict(leaves(old)), dict(leaves(wanted))
        for path, value in asked.items():
            owner = owners.get(path, manager)
            if owner != manager and before.get(path, value) != value and not is_forced:
                message = f'Apply failed with 1 conflict: conflict with "{owner}": .{".".join(path)}'
                raise refusals.Refused(409, "Conflict", message)
        made: Json = copy.deepcopy(merge(old, wanted))
        for path in [path for path, owner in owners.items() if owner == manager and path not in asked]:
            _drop(made, path)
            del owners[path]
        owners.update(dict.fromkeys(asked, manager))
        return made


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every field that is no map, below spec, data, labels and annotations."""
    for name, inner in value.items():
        if not path and name in ("apiVersion", "kind", "status"):
            continue
        if path == ("metadata",) and name not in ("labels", "annotations"):
            continue
        if isinstance(inner, dict):
            yield from leaves(inner, (*path, name))
        else:
            yield (*path, name), inner


def _drop(made: Json, path: Path) -> None:
    for step in path[:-1]:
        made = made.get(step, {})
    made.pop(path[-1], None)
