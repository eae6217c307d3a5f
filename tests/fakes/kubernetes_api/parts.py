"""Subresources that are no status: binding, eviction and logs of pods, scale of deployments; access reviews."""

import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator

from tests.fakes.kubernetes_api import refusals
from tests.fakes.kubernetes_api.addresses import Address
from tests.fakes.kubernetes_api.objects import Objects
from tests.fakes.kubernetes_api.owning import condition, is_ready, set_status, with_condition
from tests.fakes.kubernetes_api.refusals import Json
from tests.fakes.kubernetes_api.resources import BUDGETS, NODES, PODS
from tests.fakes.kubernetes_api.scheduler import bind
from tests.fakes.kubernetes_api.selectors import Selection

LOG_OPTIONS = ("tailLines", "limitBytes", "follow", "previous")


def bind_pod(objects: Objects, pod: Json, body: Json) -> Json:
    if pod["spec"].get("nodeName"):
        raise refusals.conflict("pods/binding", pod["metadata"]["name"], "pod is already assigned to a node")
    bind(objects, pod, body["target"]["name"])
    return refusals.status(201, "", "")


def evict(objects: Objects, pod: Json, body: Json) -> Json:
    """Raises 429 when a PodDisruptionBudget would be broken."""
    for budget in objects.store.all_of(BUDGETS, pod["metadata"]["namespace"]):
        chosen = _selected(objects, budget)
        healthy = sum(is_ready(each) for each in chosen)
        if pod in chosen and healthy - 1 < int(budget["spec"].get("minAvailable", 0)):
            why = "Cannot evict pod as it would violate the pod's disruption budget."
            raise refusals.Refused(429, "TooManyRequests", why)
    target = condition("DisruptionTarget", "EvictionByEvictionAPI", "Eviction API: evicting")
    conditions = with_condition(pod["status"].get("conditions") or [], target)
    marked = set_status(objects, PODS, pod, {**pod["status"], "conditions": conditions})
    objects.delete(PODS, marked, {**(body.get("deleteOptions") or {}), "propagationPolicy": "Background"})
    return refusals.status(201, "", "")


def _selected(objects: Objects, budget: Json) -> list[Json]:
    labels = (budget["spec"].get("selector") or {}).get("matchLabels") or {}
    selection = Selection.of({"labelSelector": ",".join(f"{key}={value}" for key, value in labels.items())})
    return [pod for pod in objects.store.all_of(PODS, budget["metadata"]["namespace"]) if selection.takes(pod)]


def scale_of(each: Json) -> Json:
    metadata = {key: each["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion")}
    status = {"replicas": (each.get("status") or {}).get("replicas", 0)}
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {"replicas": each["spec"]["replicas"]},
        "status": status,
    }


def rescaled(objects: Objects, address: Address, old: Json, scale: Json) -> Json:
    asked = {**old, "spec": {**old["spec"], "replicas": scale["spec"]["replicas"]}}
    return scale_of(objects.replace(address.resource, old, asked))


def log(objects: Objects, pod: Json, query: dict[str, str]) -> Iterator[bytes]:
    """From the node's own server, as the real API server does. Raises 400 while there is none."""
    metadata, spec = pod["metadata"], pod["spec"]
    names = [each["name"] for each in [*(spec.get("initContainers") or []), *spec["containers"]]]
    container = query.get("container") or spec["containers"][0]["name"]
    if container not in names:
        raise refusals.bad_request(f"container {container} is not valid for pod {metadata['name']}")
    node = objects.store.find(NODES, "", spec.get("nodeName", ""))
    if node is None:
        return iter(())
    address = next(each["address"] for each in node["status"]["addresses"] if each["type"] == "Hostname")
    port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
    asked = urllib.parse.urlencode({key: query[key] for key in LOG_OPTIONS if key in query})
    path = f"containerLogs/{metadata['namespace']}/{metadata['name']}/{container}?{asked}"
    return _fetch(f"https://{address}:{port}/{path}")


def _fetch(url: str) -> Iterator[bytes]:
    unverified = ssl._create_unverified_context()  # as the API server without --kubelet-certificate-authority
    try:
        answer = urllib.request.urlopen(url, timeout=60, context=unverified)
    except urllib.error.HTTPError as error:
        raise refusals.bad_request(error.read().decode()) from error
    except OSError as error:
        raise refusals.Refused(500, "InternalError", f"Get {url!r}: {error}") from error

    def chunks() -> Iterator[bytes]:
        with answer:
            while chunk := answer.read1(65536):
                yield chunk

    return chunks()


def review(kind: str, body: Json) -> Json:
    """Ourselves are the administrator; nobody else may anything: this server knows no roles."""
    allowed = kind.startswith("self")
    reason = "" if allowed else "no RBAC policy matched"
    return {**body, "status": {"allowed": allowed, "reason": reason}}
