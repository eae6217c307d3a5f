"""The cluster as its platform team describes it: images, node pools, queues, limits; /etc/lrm/cluster.yaml."""

import dataclasses
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lrm_safety.errors import InvalidInput
from lrm_safety.settings import PRIORITIES


@dataclass(frozen=True)
class Image:
    image: str
    pull_policy: str = "IfNotPresent"


@dataclass(frozen=True)
class Pool:
    """What one node of a pool has for a job, and how a pod gets there."""

    cpus: float
    memory_gib: float
    gpus: int = 0
    has_fast_bf16: bool = False
    gpu_resource: str = "nvidia.com/gpu"
    node_selector: dict[str, str] = field(default_factory=dict)
    tolerations: list[dict[str, Any]] = field(default_factory=list)
    runtime_class: str = ""
    shm_gib: float = 1  # of the job's memory
    scratch_gib: float = 20  # home, /tmp and state of a pod together
    gpu_hour_price: float = 0
    model_cache: str = ""  # a PersistentVolumeClaim that the pool's engines share; empty = each pod fetches for itself


@dataclass(frozen=True)
class ClusterConfig:
    """Every name in it exists in the cluster; nothing of it comes from who asks for a job."""

    namespace: str
    release: str
    images: dict[str, Image]
    pools: dict[str, Pool]
    training_pool: str
    engine_pool: str
    service_account: str
    image_pull_secrets: list[str] = field(default_factory=list)
    env_from: list[dict[str, Any]] = field(default_factory=list)
    engine_uid: int = 10001  # upstream engines would be root, and run as well so; 0 = the platform chooses
    queue: str = ""  # of Kueue, for teams that are not in `queues`; "" = none
    queues: dict[str, str] = field(default_factory=dict)  # of a team
    priority_classes: dict[str, str] = field(default_factory=dict)  # of a priority; "" = none
    workload_priority_classes: dict[str, str] = field(default_factory=dict)  # Kueue's
    grace_s: int = 120  # from SIGTERM to SIGKILL: what a checkpoint takes
    deadline_s: int = 604800  # of a job's life
    ttl_s: int = 86400  # that an ended job's objects stay

    def pool(self, name: str) -> Pool:
        """Raises InvalidInput naming those there are."""
        if name not in self.pools:
            raise InvalidInput(f"node_pool is {name!r}; this cluster has {', '.join(sorted(self.pools))}")
        return self.pools[name]


def read(path: Path) -> ClusterConfig:
    """Raises InvalidInput naming the key that is unknown, missing or of the wrong type."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInput(
            f"LRM_JOBS is cluster, but its description {path} cannot be read ({error.strerror}); set LRM_CLUSTER to it"
        ) from error
    return parse(text, str(path))


def parse(text: str, source: str = "cluster.yaml") -> ClusterConfig:
    try:
        loaded = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidInput(f"{source} is not YAML: {error}") from error
    made: ClusterConfig = _convert(ClusterConfig, loaded, source)
    for key in ("training_pool", "engine_pool"):
        if getattr(made, key) not in made.pools:
            raise InvalidInput(f"{source}: {key} is {getattr(made, key)!r}; pools has {', '.join(sorted(made.pools))}")
    for key in ("priority_classes", "workload_priority_classes"):
        if unknown := sorted(set(getattr(made, key)) - set(PRIORITIES)):
            raise InvalidInput(f"{source}: {key} has {unknown[0]!r}; expected {', '.join(PRIORITIES)}")
    return made


def _convert(kind: Any, value: Any, where: str) -> Any:
    """`value` as `kind`, checked all the way down; `where` names it in errors."""
    if dataclasses.is_dataclass(kind):
        return _record(kind, value, where)
    if isinstance(kind, types.GenericAlias):
        return _collection(kind, value, where)
    if kind is Any:
        return value
    fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not fits:
        raise InvalidInput(f"{where} is {value!r}; expected {_WORDS[kind]}")
    return value


def _record(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise InvalidInput(f"{where} is {value!r}; expected keys and values")
    known = {each.name: each for each in dataclasses.fields(kind)}
    types_of = typing.get_type_hints(kind)
    if unknown := [str(key) for key in value if key not in known]:
        raise InvalidInput(f"{where} has no {unknown[0]!r}; it takes {', '.join(known)}")
    nothing = dataclasses.MISSING
    needed = [name for name, each in known.items() if each.default is nothing and each.default_factory is nothing]
    if missing := [name for name in needed if name not in value]:
        raise InvalidInput(f"{where} lacks {missing[0]!r}")
    return kind(**{key: _convert(types_of[key], each, f"{where}: {key}") for key, each in value.items()})


def _collection(kind: types.GenericAlias, value: Any, where: str) -> Any:
    outer: Any = kind.__origin__
    inner = kind.__args__[-1]
    if not isinstance(value, outer):
        raise InvalidInput(f"{where} is {value!r}; expected {_WORDS[outer]}")
    if outer is list:
        return [_convert(inner, each, f"{where}[{index}]") for index, each in enumerate(value)]
    return {str(key): _convert(inner, each, f"{where}.{key}") for key, each in value.items()}


_WORDS = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "keys and values",
}
