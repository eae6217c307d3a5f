"""Kubernetes quantities ("500m", "2Gi") as numbers, and what pods ask for."""

import re
from collections import Counter

from tests.fakes.kubernetes_api.refusals import Json

BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
SUFFIXES = {"m": 1e-3, "": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, **BINARY}
QUANTITY = re.compile(r"([0-9.]+(?:e[0-9]+)?)([a-zA-Z]*)")


def amount(quantity: str | float) -> float:
    match = QUANTITY.fullmatch(str(quantity))
    if not match:
        raise ValueError(f"no quantity: {quantity!r}")
    return float(match[1]) * SUFFIXES[match[2]]


def requests(pod_spec: Json, field: str = "requests") -> Counter[str]:
    """Of its containers together, or of the greatest init container. A limit without a request is one."""
    total: Counter[str] = Counter()
    for container in pod_spec.get("containers") or []:
        total += _asked(container, field)
    for container in pod_spec.get("initContainers") or []:
        total |= _asked(container, field)
    return total


def _asked(container: Json, field: str) -> Counter[str]:
    resources = container.get("resources") or {}
    asked = {**(resources.get("limits") or {}), **(resources.get(field) or {})}
    return Counter({name: amount(each) for name, each in asked.items()})
