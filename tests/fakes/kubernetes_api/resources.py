"""The kinds that the fake serves, and how their objects are named in addresses and messages."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.fakes.kubernetes_api.refusals import Json


@dataclass(frozen=True)
class Resource:
    group: str
    version: str
    plural: str
    kind: str
    is_namespaced: bool = True
    has_status: bool = False
    schema: Json | None = field(default=None, compare=False)

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def long_name(self) -> str:
        """As in messages and quotas: `jobs.batch`, `pods`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


def core(plural: str, kind: str, is_namespaced: bool = True, has_status: bool = False) -> Resource:
    return Resource("", "v1", plural, kind, is_namespaced, has_status)


NAMESPACES = core("namespaces", "Namespace", is_namespaced=False, has_status=True)
NODES = core("nodes", "Node", is_namespaced=False, has_status=True)
PODS = core("pods", "Pod", has_status=True)
EVENTS = core("events", "Event")
SERVICE_ACCOUNTS = core("serviceaccounts", "ServiceAccount")
CONFIG_MAPS = core("configmaps", "ConfigMap")
QUOTAS = core("resourcequotas", "ResourceQuota", has_status=True)
JOBS = Resource("batch", "v1", "jobs", "Job", has_status=True)
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment", has_status=True)
REPLICA_SETS = Resource("apps", "v1", "replicasets", "ReplicaSet", has_status=True)
BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", has_status=True)
PRIORITY_CLASSES = Resource("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", is_namespaced=False)
CRDS = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", False, has_status=True
)
RBAC = "rbac.authorization.k8s.io"
BUILT_IN = (
    NAMESPACES,
    NODES,
    PODS,
    EVENTS,
    SERVICE_ACCOUNTS,
    CONFIG_MAPS,
    QUOTAS,
    core("secrets", "Secret"),
    core("services", "Service", has_status=True),
    core("endpoints", "Endpoints"),
    core("persistentvolumeclaims", "PersistentVolumeClaim", has_status=True),
    JOBS,
    DEPLOYMENTS,
    REPLICA_SETS,
    BUDGETS,
    PRIORITY_CLASSES,
    CRDS,
    Resource("coordination.k8s.io", "v1", "leases", "Lease"),
    Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy"),
    Resource(RBAC, "v1", "roles", "Role"),
    Resource(RBAC, "v1", "rolebindings", "RoleBinding"),
)


class Resources:
    """All that is served now: the built-in kinds, and custom ones as their definitions come."""

    def __init__(self) -> None:
        self._by_place = {(each.group, each.version, each.plural): each for each in BUILT_IN}

    def __iter__(self) -> Iterator[Resource]:
        return iter(list(self._by_place.values()))

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        return self._by_place.get((group, version, plural))

    def versions(self, group: str) -> list[str]:
        return sorted({each.version for each in self if each.group == group})

    def define(self, definition: Json) -> None:
        """Serves the kind of a CustomResourceDefinition."""
        spec = definition["spec"]
        for version in spec["versions"]:
            made = Resource(
                spec["group"],
                version["name"],
                spec["names"]["plural"],
                spec["names"]["kind"],
                is_namespaced=spec["scope"] == "Namespaced",
                has_status="status" in version.get("subresources", {}),
                schema=version.get("schema", {}).get("openAPIV3Schema"),
            )
            self._by_place[made.group, made.version, made.plural] = made

    def forget(self, definition: Json) -> None:
        for version in definition["spec"]["versions"]:
            spec = definition["spec"]
            self._by_place.pop((spec["group"], version["name"], spec["names"]["plural"]), None)
