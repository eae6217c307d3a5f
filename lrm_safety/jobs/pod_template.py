"""The pod of a job: one container under Pod Security "restricted", and before it, if need be, one that fetches weights.

Nothing here is the caller's to choose but command, env and sizes: images, nodes and secrets are the cluster's.
"""

import math
import re
from dataclasses import replace
from pathlib import PurePosixPath

from lrm_safety.jobs import PYTHON, JobSpec
from lrm_safety.jobs.cluster_config import ClusterConfig, Pool
from lrm_safety.jobs.kube import Object
from lrm_safety.settings import Settings

CONTAINER, WEIGHTS = "job", "weights"  # names of the containers
STATE, HOME = PurePosixPath("/var/lib/lrm"), PurePosixPath("/home/lrm")
MASTER_PORT = 29500
COMPLETION_INDEX = "batch.kubernetes.io/job-completion-index"
DRAIN_S = 5  # between "takes no more requests" and SIGTERM: routers look this often
LOAD_S = 1800  # an engine may take so long to load its weights
_DOLLAR = re.compile(r"\$(?!\((?:NODE_RANK|MASTER_ADDR|MASTER_PORT)\))")
_CACHES = {
    "HF_HOME": "huggingface",
    "TRITON_CACHE_DIR": "triton",
    "VLLM_CACHE_ROOT": "vllm",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
}
# What a job learns of our settings. Keys of the store and of vendors come from the cluster's `env_from`.
_PASSED_ON = ("LRM_STORE", "LRM_S3_ENDPOINT", "LRM_S3_SECURE", "LRM_LOG_LEVEL", "HF_HUB_OFFLINE")
_CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
}


def pod_spec(spec: JobSpec, config: ClusterConfig, pool: Pool, settings: Settings) -> Object:
    """A PodSpec. The container's name is CONTAINER; an init container WEIGHTS runs first when the job has weights."""
    made: Object = {
        "serviceAccountName": config.service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": config.grace_s,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [_container(spec, config, pool, settings)],
        "volumes": _volumes(spec, pool),
    }
    if spec.weights:
        made["initContainers"] = [_weights(spec, config, pool, settings)]
    if not spec.port:
        made["restartPolicy"] = "Never"
    if spec.nodes > 1:
        made["subdomain"] = spec.id
    if pool.model_cache and spec.weights and config.engine_uid:
        made["securityContext"] |= {"fsGroup": config.engine_uid, "fsGroupChangePolicy": "OnRootMismatch"}
    optional = {
        "imagePullSecrets": [{"name": name} for name in config.image_pull_secrets],
        "nodeSelector": pool.node_selector,
        "tolerations": pool.tolerations,
        "runtimeClassName": pool.runtime_class,
        "priorityClassName": config.priority_classes.get(spec.priority, ""),
    }
    return made | {name: value for name, value in optional.items() if value}


def _container(spec: JobSpec, config: ClusterConfig, pool: Pool, settings: Settings) -> Object:
    made = _any_container(spec, config, pool, settings)
    made |= {"name": CONTAINER, "command": [_literal(word, spec) for word in spec.command]}
    made["volumeMounts"] = [*_mounts(spec, pool, is_read_only=True), {"name": "shm", "mountPath": "/dev/shm"}]
    if spec.image == "engine" and config.engine_uid:
        made["securityContext"] = {**_CONTAINER_SECURITY, "runAsUser": config.engine_uid}
    if spec.port:
        made |= _server(spec.port)
    elif config.env_from:  # a server gets its files from WEIGHTS and needs no key
        made["envFrom"] = config.env_from
    return made


def _weights(spec: JobSpec, config: ClusterConfig, pool: Pool, settings: Settings) -> Object:
    """Puts the checkpoint's files, verified, into models/<digest> of the state folder."""
    fetching = replace(spec, image="service", env={}, gpus=0, nodes=1)
    made = _any_container(fetching, config, pool, settings)
    made |= {
        "name": WEIGHTS,
        "command": [PYTHON, "-m", "services.inference.weights", spec.weights, str(STATE / "models")],
        "volumeMounts": _mounts(spec, pool, is_read_only=False),
    }
    return made | ({"envFrom": config.env_from} if config.env_from else {})


def _any_container(spec: JobSpec, config: ClusterConfig, pool: Pool, settings: Settings) -> Object:
    amounts = resources(spec, pool)
    image = config.images[spec.image]
    return {
        "image": image.image,
        "imagePullPolicy": image.pull_policy,
        "env": _env(spec, settings),
        "resources": {"requests": amounts, "limits": amounts},
        "securityContext": _CONTAINER_SECURITY,
    }


def _server(port: int) -> Object:
    health = {"httpGet": {"path": "/health", "port": port}, "timeoutSeconds": 5}
    return {
        "ports": [{"name": "http", "containerPort": port}],
        "startupProbe": {**health, "periodSeconds": 5, "failureThreshold": LOAD_S // 5},
        "readinessProbe": {**health, "periodSeconds": 5, "failureThreshold": 3},
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(DRAIN_S)]}}},
    }


def resources(spec: JobSpec, pool: Pool) -> dict[str, str]:
    """Requests, which are limits too; what is not asked for is left out."""
    amounts = {
        "cpu": f"{spec.cpus:g}" if spec.cpus else "",
        "memory": f"{math.ceil(spec.memory_gib * 1024)}Mi" if spec.memory_gib else "",
        "ephemeral-storage": f"{math.ceil(pool.scratch_gib * 1024)}Mi",
        pool.gpu_resource: str(spec.gpus) if spec.gpus else "",
    }
    return {name: amount for name, amount in amounts.items() if amount}


def _env(spec: JobSpec, settings: Settings) -> list[Object]:
    ours = {name: value for name, value in settings.to_env().items() if name in _PASSED_ON and value}
    places = {"LRM_STATE": str(STATE), "HOME": str(HOME), "USER": "lrm", "XDG_CACHE_HOME": str(HOME / ".cache")}
    caches = {name: str(HOME / ".cache" / folder) for name, folder in _CACHES.items()}
    rank: list[Object] = []
    rendezvous = {}
    if spec.nodes > 1:
        index = {"fieldRef": {"fieldPath": f"metadata.annotations['{COMPLETION_INDEX}']"}}
        rank = [{"name": "NODE_RANK", "valueFrom": index}]
        rendezvous = {"MASTER_ADDR": f"{spec.id}-0.{spec.id}", "MASTER_PORT": str(MASTER_PORT)}
    values = {**ours, **places, **caches, **rendezvous, **spec.env}
    return rank + [{"name": name, "value": _literal(value, spec)} for name, value in values.items()]


def _literal(text: str, spec: JobSpec) -> str:
    """As a container must be told it to see it as it is: only on several nodes something is replaced, see JobSpec."""
    return _DOLLAR.sub("$$", text) if spec.nodes > 1 else text.replace("$", "$$")


def _volumes(spec: JobSpec, pool: Pool) -> list[Object]:
    made: list[Object] = [{"name": name, "emptyDir": {}} for name in ("tmp", "home", "state")]
    made.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{math.ceil(pool.shm_gib * 1024)}Mi"}})
    if pool.model_cache and spec.weights:
        made.append({"name": "models", "persistentVolumeClaim": {"claimName": pool.model_cache}})
    return made


def _mounts(spec: JobSpec, pool: Pool, is_read_only: bool) -> list[Object]:
    made: list[Object] = [
        {"name": "tmp", "mountPath": "/tmp"},
        {"name": "home", "mountPath": str(HOME)},
        {"name": "state", "mountPath": str(STATE)},
    ]
    if pool.model_cache and spec.weights:
        made.append({"name": "models", "mountPath": str(STATE / "models"), "readOnly": is_read_only})
    return made
