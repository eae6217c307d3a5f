"""A node whose pods are processes of this machine, for any API server: the fake one and real ones.

    node = ProcessNode(kubeconfig, folder, capacity={"cpu": "2"})
    node.set_capacity({"nvidia.com/gpu": "1"})   # so GPU scheduling is testable without one
    node.oom_kill("lrm", "training-1-abcde")
    node.stop()

Images are names only: `python` is our interpreter, the working folder is the checkout. Mounts are folders below
`folder`; their paths are translated in commands and variables, but for /tmp and /dev/shm. Every pod is at 127.0.0.1,
or at a loopback address of its own (`own_addresses`), which 0.0.0.0 in commands and variables then means. Not done:
liveness probes, pid namespaces, users, limits of memory and cpu, tokens of service accounts.
"""

import os
import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from urllib3.exceptions import HTTPError

from tests.fakes.api_client import Api, Refusal
from tests.fakes.kubelet_logs import LogServer
from tests.fakes.process_container import ROOT, Json
from tests.fakes.process_pod import ProcessPod

HEARTBEAT_S = 5.0
RETRY_S = 0.3
WATCH_S = 60
CAPACITY = {"cpu": str(os.cpu_count()), "memory": "16Gi", "ephemeral-storage": "500Gi", "pods": "110"}


@dataclass
class ProcessNode:
    kubeconfig: Path
    folder: Path
    name: str = "process-node"
    capacity: Mapping[str, str] = field(default_factory=dict)  # on top of CAPACITY
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: list[Json] = field(default_factory=list)
    env: Mapping[str, str] = field(default_factory=dict)  # of every container, over its own
    replaced: Mapping[str, str] = field(default_factory=dict)  # words of commands, e.g. a module by a scripted one
    missing_images: set[str] = field(default_factory=set)  # which cannot be pulled (now)
    own_addresses: bool = False
    working_folder: Path = ROOT
    is_stopped: bool = False

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.api = Api(self.kubeconfig)
        self._pods: dict[str, ProcessPod] = {}
        self._lock = threading.RLock()
        self._addresses: dict[tuple[str, str], str] = {}
        self._numbers, self._net = count(2), f"127.{random.randint(64, 250)}.{random.randint(1, 250)}"
        self._over = threading.Event()
        self._has = {**CAPACITY, **self.capacity}
        self._logs = LogServer(self.folder, self._find_log)
        self._register()
        for loop in (self._heartbeats, self._follow):
            threading.Thread(target=self._for_ever, args=(loop,), daemon=True).start()

    def set_capacity(self, capacity: Mapping[str, str]) -> None:
        """Adds to, or changes, what the node has."""
        self._has.update(capacity)
        self._beat()

    def oom_kill(self, namespace: str, pod: str) -> None:
        """Kills the pod's processes as the kernel does when its memory limit is reached."""
        self.pod(namespace, pod).kill("OOMKilled")

    def pod(self, namespace: str, name: str) -> ProcessPod:
        with self._lock:
            pods = [(pod.metadata["namespace"], pod.metadata["name"], pod) for pod in self._pods.values()]
        return [pod for *place, pod in pods if place == [namespace, name]][-1]

    def stop(self) -> None:
        """Kills every pod's processes and takes the node out of the cluster."""
        self.is_stopped = True
        self._over.set()
        with self._lock:
            pods = list(self._pods.values())
        for pod in pods:
            pod.stop(0)
            pod.kill()
        self._logs.shutdown()
        self._logs.server_close()
        self._quietly(lambda: self.api.ask("DELETE", f"/api/v1/nodes/{self.name}"))

    def address_of(self, namespace: str, hostname: str) -> str:
        if not self.own_addresses:
            return "127.0.0.1"
        with self._lock:
            if (namespace, hostname) not in self._addresses:
                self._addresses[namespace, hostname] = f"{self._net}.{next(self._numbers)}"
            return self._addresses[namespace, hostname]

    def report(self, metadata: Json, status: Json) -> bool:
        """A pod's status. True when there is no need to say it again."""
        path = f"{_path(metadata)}/status"
        return self._quietly(lambda: self.api.patch(path, {"metadata": {"uid": metadata["uid"]}, "status": status}))

    def forget(self, pod: ProcessPod) -> None:
        """Its processes have ended: lets go of its object."""
        metadata = pod.metadata
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": metadata["uid"]}}

        while not self.is_stopped and not self._quietly(lambda: self.api.ask("DELETE", _path(metadata), options)):
            self._over.wait(RETRY_S)
        with self._lock:
            self._pods.pop(metadata["uid"], None)

    def _register(self) -> None:
        labels = {"kubernetes.io/hostname": self.name, "kubernetes.io/os": "linux", **self.labels}
        node = {"metadata": {"name": self.name, "labels": labels}, "spec": {"taints": self.taints}}

        while not self._quietly(lambda: self.api.ask("POST", "/api/v1/nodes", node)):
            self._over.wait(RETRY_S)
        self._beat()

    def _heartbeats(self) -> None:
        while not self._over.wait(HEARTBEAT_S):
            self._beat()

    def _beat(self) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "", "lastHeartbeatTime": now}
        addresses = [{"type": kind, "address": "127.0.0.1"} for kind in ("Hostname", "InternalIP")]
        status = {
            "capacity": self._has,
            "allocatable": self._has,
            "conditions": [{**ready, "lastTransitionTime": now}],
            "addresses": addresses,
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._logs.server_address[1]}},
        }
        self._quietly(lambda: self.api.patch(f"/api/v1/nodes/{self.name}/status", {"status": status}))

    def _follow(self) -> None:
        """One list and one watch of the pods that are bound to this node."""
        chosen = {"fieldSelector": f"spec.nodeName={self.name}"}
        listed = self.api.ask("GET", "/api/v1/pods", **chosen)
        for pod in listed["items"]:
            self._take(pod)
        with self._lock:
            gone = self._pods.keys() - {pod["metadata"]["uid"] for pod in listed["items"]}
        for uid in gone:
            self._lose(uid)
        for type_, pod in self.api.watch("/api/v1/pods", listed["metadata"]["resourceVersion"], WATCH_S, **chosen):
            if type_ == "ERROR" or self.is_stopped:
                return
            if type_ == "DELETED":
                self._lose(pod["metadata"]["uid"])
            else:
                self._take(pod)

    def _take(self, pod: Json) -> None:
        metadata = pod["metadata"]
        deleted_in = metadata.get("deletionGracePeriodSeconds")
        with self._lock:
            known = self._pods.get(metadata["uid"])
            if known is None and pod["status"].get("phase") not in ("Succeeded", "Failed") and not self.is_stopped:
                known = self._pods[metadata["uid"]] = ProcessPod(self, pod)
        if known and metadata.get("deletionTimestamp"):
            known.stop(float(deleted_in or 0))

    def _lose(self, uid: str) -> None:
        with self._lock:
            pod = self._pods.pop(uid, None)
        if pod:
            pod.stop(0)

    def _find_log(self, namespace: str, pod: str, container: str) -> tuple[Path, Callable[[], bool]] | None:
        try:
            found = self.pod(namespace, pod).find(container)
        except IndexError:
            return None
        if found is None or found.log is None:
            return None
        return found.log, lambda: found.exit_code is None

    def _for_ever(self, loop: Callable[[], None]) -> None:
        while not self.is_stopped:
            self._quietly(loop)
            self._over.wait(RETRY_S)

    def _quietly(self, call: Callable[[], object]) -> bool:
        """False when the API server is away or busy; that the thing is gone or there already is fine."""
        try:
            call()
        except Refusal as refusal:
            return refusal.status in (404, 409)
        except (HTTPError, OSError):
            return False
        return True


def _path(metadata: Json) -> str:
    return f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
