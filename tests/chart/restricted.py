"""Pod Security "restricted" as the Kubernetes documentation lists it, and the house's own rules on top."""

from collections.abc import Iterator
from typing import Any

Spec = dict[str, Any]
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


def violations(pod: Spec) -> list[str]:
    """What a pod spec does that "restricted" forbids, in words; empty = admitted."""
    return [*_of_pod(pod), *(words for each in _containers(pod) for words in _of_container(pod, each))]


def house_violations(pod: Spec) -> list[str]:
    """What "restricted" allows and we do not: a writable root, a token left to chance, no limits."""
    found = [] if "automountServiceAccountToken" in pod else ["automountServiceAccountToken is not decided"]
    for each in _containers(pod):
        resources = each.get("resources", {})
        if not each.get("securityContext", {}).get("readOnlyRootFilesystem"):
            found.append(f"{each['name']}: the root is writable")
        if "memory" not in resources.get("limits", {}) or {"cpu", "memory"} - set(resources.get("requests", {})):
            found.append(f"{each['name']}: no requests, or no limit of memory")
    return found


def _containers(pod: Spec) -> list[Spec]:
    return [*pod.get("initContainers", []), *pod.get("containers", []), *pod.get("ephemeralContainers", [])]


def _of_pod(pod: Spec) -> Iterator[str]:
    yield from (key for key in ("hostNetwork", "hostPID", "hostIPC") if pod.get(key))
    for volume in pod.get("volumes", []):
        yield from (f"volume {volume['name']} is a {kind}" for kind in set(volume) - VOLUMES - {"name"})
    context = pod.get("securityContext", {})
    if context.get("runAsUser") == 0:
        yield "runs as root"
    if context.get("sysctls"):
        yield "sets sysctls"


def _of_container(pod: Spec, container: Spec) -> Iterator[str]:
    name, own, shared = container["name"], container.get("securityContext", {}), pod.get("securityContext", {})
    if own.get("privileged"):
        yield f"{name}: privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield f"{name}: may escalate"
    capabilities = own.get("capabilities", {})
    if capabilities.get("drop") != ["ALL"] or set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield f"{name}: keeps capabilities"
    if own.get("runAsNonRoot", shared.get("runAsNonRoot")) is not True or own.get("runAsUser") == 0:
        yield f"{name}: may be root"
    if own.get("seccompProfile", shared.get("seccompProfile", {})).get("type") not in ("RuntimeDefault", "Localhost"):
        yield f"{name}: no seccomp profile"
    if own.get("procMount", "Default") != "Default":
        yield f"{name}: sees /proc unmasked"
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield f"{name}: takes a port of the node"
