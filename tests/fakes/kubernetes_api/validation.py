"""What the API server refuses with 422: names, labels, pods and jobs that cannot be, values outside a custom schema."""

import re
from collections.abc import Iterator
from typing import Any

from tests.fakes.kubernetes_api import refusals
from tests.fakes.kubernetes_api.refusals import Json
from tests.fakes.kubernetes_api.resources import DEPLOYMENTS, JOBS, PODS, RBAC, Resource

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
SUBDOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?")
LABEL_KEY = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
SHORT_NAMES = ("namespaces", "services")
IMMUTABLE = ("template", "selector", "completions", "completionMode", "podFailurePolicy")
TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
}


def check(resource: Resource, made: Json, old: Json | None = None) -> None:
    """Raises 422 with every cause."""
    causes = [*_metadata(resource, made["metadata"])]
    spec = made.get("spec") or {}
    if resource == PODS:
        causes += _pod(spec, "spec")
    if resource == JOBS:
        causes += [*_job(made, spec), *_changes(spec, (old or {}).get("spec"))]
    if resource == DEPLOYMENTS:
        causes += [*_pod(spec["template"].get("spec", {}), "spec.template.spec"), *_selects(spec)]
    if resource.schema:
        causes += _against(resource.schema, made, "")
    if causes:
        raise refusals.invalid(resource.kind, made["metadata"].get("name", ""), *causes)


def _metadata(resource: Resource, metadata: Json) -> Iterator[str]:
    name = metadata.get("name", "")
    is_short = resource.plural in SHORT_NAMES
    pattern = LABEL if is_short else SUBDOMAIN
    if resource.group != RBAC and not pattern.fullmatch(name):
        kind = "label" if is_short else "subdomain"
        yield (
            f'metadata.name: Invalid value: "{name}": a lowercase RFC 1123 {kind} must consist of lower case '
            "alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character"
        )
    yield from _labels(metadata.get("labels") or {}, "metadata.labels")


def _labels(labels: Json, path: str) -> Iterator[str]:
    for key, value in labels.items():
        if not LABEL_KEY.fullmatch(key):
            yield f'{path}: Invalid value: "{key}": name part must consist of alphanumeric characters'
        if not isinstance(value, str) or not LABEL_VALUE.fullmatch(value):
            yield f"{path}: Invalid value: {value!r}: a valid label must be an empty string or at most 63 characters"


def _pod(spec: Json, path: str) -> Iterator[str]:
    volumes = {volume["name"] for volume in spec.get("volumes") or []}
    containers = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
    if not spec.get("containers"):
        yield f"{path}.containers: Required value"
    names = [container.get("name", "") for container in containers]
    for index, container in enumerate(containers):
        if not LABEL.fullmatch(container.get("name", "")) or names.count(container["name"]) > 1:
            yield f"{path}.containers[{index}].name: Invalid or duplicate value: {container.get('name')!r}"
        if not container.get("image"):
            yield f"{path}.containers[{index}].image: Required value"
        for mount in container.get("volumeMounts") or []:
            if mount["name"] not in volumes:
                yield f'{path}.containers[{index}].volumeMounts.name: Not found: "{mount["name"]}"'
        for variable in container.get("env") or []:
            if not isinstance(variable.get("value", ""), str):
                yield f"{path}.containers[{index}].env: {variable['name']} is no string"


def _job(made: Json, spec: Json) -> Iterator[str]:
    pod = spec["template"].get("spec", {})
    yield from _pod(pod, "spec.template.spec")
    yield from _labels(spec["template"].get("metadata", {}).get("labels") or {}, "spec.template.labels")
    if pod.get("restartPolicy") not in ("Never", "OnFailure"):
        yield f'spec.template.spec.restartPolicy: Unsupported value: "{pod.get("restartPolicy", "Always")}"'
    if spec.get("completionMode") == "Indexed":
        if spec.get("completions") is None:
            yield "spec.completions: Required value: when completion mode is Indexed"
        if not LABEL.fullmatch(f"{made['metadata'].get('name')}-{(spec.get('completions') or 1) - 1}"):
            yield "metadata.name: Invalid value: will not able to create pod with invalid DNS label"
    if spec.get("podFailurePolicy") and pod.get("restartPolicy") != "Never":
        yield "spec.template.spec.restartPolicy: Invalid value: only Never is supported when podFailurePolicy is set"


def _changes(spec: Json, old: Json | None) -> Iterator[str]:
    for field in IMMUTABLE:
        if old and spec.get(field) != old.get(field):
            yield f"spec.{field}: Invalid value: field is immutable"


def _selects(spec: Json) -> Iterator[str]:
    labels = spec["template"].get("metadata", {}).get("labels") or {}
    wanted = (spec.get("selector") or {}).get("matchLabels") or {}
    if not wanted or any(labels.get(key) != value for key, value in wanted.items()):
        yield "spec.template.metadata.labels: Invalid value: `selector` does not match template `labels`"


def _against(schema: Json, value: Any, path: str) -> Iterator[str]:
    expected = TYPES.get(schema.get("type", ""))
    if expected and (not isinstance(value, expected) or (isinstance(value, bool) and schema["type"] != "boolean")):
        yield f"{path}: Invalid value: must be of type {schema['type']}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: Unsupported value: {value!r}"
    if "minimum" in schema and value < schema["minimum"]:
        yield f"{path}: Invalid value: {value}: should be greater than or equal to {schema['minimum']}"
    if "maximum" in schema and value > schema["maximum"]:
        yield f"{path}: Invalid value: {value}: should be less than or equal to {schema['maximum']}"
    if isinstance(value, dict):
        yield from (f"{path}.{name}: Required value" for name in schema.get("required", ()) if name not in value)
        for name, inner in schema.get("properties", {}).items():
            if name in value:
                yield from _against(inner, value[name], f"{path}.{name}".lstrip("."))
    if isinstance(value, list) and "items" in schema:
        for index, each in enumerate(value):
            yield from _against(schema["items"], each, f"{path}[{index}]")
