"""An address of the API taken apart: which kind, which namespace, which object, which part of it."""

from dataclasses import dataclass

from tests.fakes.kubernetes_api import refusals
from tests.fakes.kubernetes_api.resources import NAMESPACES, Resource, Resources

PARTS_OF_NAMESPACES = ("status", "finalize")


@dataclass(frozen=True)
class Address:
    resource: Resource
    namespace: str = ""
    name: str = ""
    part: str = ""  # status, log, binding, eviction, scale


def parse(resources: Resources, path: str) -> Address:
    """Raises 404 where nothing is served."""
    steps = [step for step in path.split("/") if step]
    if steps[:2] == ["api", "v1"]:
        group, version, steps = "", "v1", steps[2:]
    elif steps[:1] == ["apis"] and len(steps) >= 4:
        group, version, steps = steps[1], steps[2], steps[3:]
    else:
        raise _nothing(path)
    namespace = ""
    if steps[0] == "namespaces" and len(steps) > 2 and steps[2] not in PARTS_OF_NAMESPACES:
        namespace, steps = steps[1], steps[2:]
    resource = resources.find(group, version, steps[0])
    if resource is None or len(steps) > 3 or (namespace and not resource.is_namespaced):
        raise _nothing(path)
    name, part = [*steps[1:], "", ""][:2]
    if name and resource.is_namespaced and not namespace:
        raise _nothing(path)
    return Address(resource, name if resource == NAMESPACES else namespace, name, part)


def _nothing(path: str) -> refusals.Refused:
    return refusals.Refused(404, "NotFound", f"the server could not find the requested resource: {path}")
