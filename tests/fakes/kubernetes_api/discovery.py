"""What the server says about itself: version, health, which groups and kinds it serves."""

from tests.fakes.kubernetes_api.refusals import Json
from tests.fakes.kubernetes_api.resources import Resource, Resources

VERSION = {
    "major": "1",
    "minor": "34",
    "gitVersion": "v1.34.0-fake",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "",
    "goVersion": "",
    "compiler": "",
    "platform": "linux/amd64",
}
VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]


def answer(resources: Resources, path: str) -> Json | None:
    """None for the address of an object or a list, or for what is not there."""
    health = {each: {"status": "ok"} for each in ("readyz", "livez", "healthz")}
    known: Json = {"version": VERSION, "api": {"kind": "APIVersions", "versions": ["v1"]}, **health}
    steps = [step for step in path.split("/") if step]
    if "/".join(steps) in known:
        return dict(known["/".join(steps)])
    return _groups(resources, steps[1:]) if steps[:1] == ["apis"] else _core(resources, steps)


def _core(resources: Resources, steps: list[str]) -> Json | None:
    return _kinds("v1", [each for each in resources if not each.group]) if steps == ["api", "v1"] else None


def _groups(resources: Resources, steps: list[str]) -> Json | None:
    if not steps:
        groups = sorted({each.group for each in resources if each.group})
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(resources, name) for name in groups]}
    if len(steps) == 1 and resources.versions(steps[0]):
        return {"kind": "APIGroup", "apiVersion": "v1", **_group(resources, steps[0])}
    listed = [each for each in resources if [each.group, each.version] == steps]
    return _kinds("/".join(steps), listed) if listed else None


def _group(resources: Resources, name: str) -> Json:
    versions = [{"groupVersion": f"{name}/{each}", "version": each} for each in resources.versions(name)]
    return {"name": name, "versions": versions, "preferredVersion": versions[-1]}


def _kinds(group_version: str, listed: list[Resource]) -> Json:
    kinds = []
    for each in listed:
        kind = {"name": each.plural, "singularName": each.kind.lower(), "kind": each.kind, "verbs": VERBS}
        kinds.append({**kind, "namespaced": each.is_namespaced})
        if each.has_status:
            part = {**kind, "name": f"{each.plural}/status", "verbs": ["get", "patch", "update"]}
            kinds.append({**part, "namespaced": each.is_namespaced})
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": kinds}
