"""A pod as processes of this machine: volumes as folders, init containers in order, containers, their state."""

import base64
import math
import re
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from urllib3.exceptions import HTTPError

from tests.fakes.api_client import Refusal
from tests.fakes.process_container import PATH, Container, Json, NotYet, Start, expand

if TYPE_CHECKING:
    from tests.fakes.process_node import ProcessNode

SHARED_MOUNTS = ("/tmp", "/dev/shm")  # every machine has them, and paths of tests lie below: not translated
LOOK_AGAIN_S = 0.3
FIRST_BACKOFF_S, LAST_BACKOFF_S = 0.5, 5.0
FIELD = re.compile(r"metadata\.(labels|annotations)\['(.+)'\]")


class ProcessPod:
    """`run` is the life of it, in a thread of its own; `stop` may come at any time."""

    def __init__(self, node: "ProcessNode", pod: Json) -> None:
        self.node, self.pod = node, pod
        self.metadata, self.spec = pod["metadata"], pod["spec"]
        self.folder = node.folder / f"{self.metadata['namespace']}_{self.metadata['name']}_{self.metadata['uid']}"
        self.folder.mkdir(parents=True, exist_ok=True)
        hostname = self.spec.get("hostname") or self.metadata["name"]
        self.address = node.address_of(self.metadata["namespace"], hostname)
        self.inits = [Container(each, self.address) for each in self.spec.get("initContainers") or []]
        self.containers = [Container(each, self.address) for each in self.spec["containers"]]
        self.is_over = False
        self._stopping = threading.Event()
        self._until = math.inf  # monotonic: when what still runs is killed
        self._telling, self._lock = threading.Lock(), threading.Lock()
        self._env: dict[str, Mapping[str, str]] = {}
        self._started = _now()
        self.thread = threading.Thread(target=self._live, daemon=True)
        self.thread.start()

    def stop(self, grace_s: float) -> None:
        """As asked by the pod's deletion: in order, then by force; the pod's object goes when all have ended.

        Asked again, the time left may become shorter, as a later deletion with less grace wants it.
        """
        self._until = min(self._until, time.monotonic() + grace_s)
        with self._lock:
            is_first = not self._stopping.is_set()
            self._stopping.set()
        if is_first:
            threading.Thread(target=self._stop, daemon=True).start()

    def kill(self, reason: str = "") -> None:
        for container in [*self.inits, *self.containers]:
            container.kill(reason)

    def find(self, container: str) -> Container | None:
        return next((each for each in [*self.inits, *self.containers] if each.spec["name"] == container), None)

    def _stop(self) -> None:
        while self.thread.is_alive():  # again, for a process that was just starting
            with ThreadPoolExecutor(8) as pool:
                for each in [*self.inits, *self.containers]:
                    pool.submit(each.stop, lambda: self._until, self._env.get(each.spec["name"], {}))
            self.thread.join(LOOK_AGAIN_S)
        self.node.forget(self)

    def _live(self) -> None:
        if all(self._run(each, is_init=True) for each in self.inits) and not self._stopping.is_set():
            with ThreadPoolExecutor(len(self.containers)) as pool:
                list(pool.map(self._run, self.containers))
        self.is_over = True
        self._tell()

    def _run(self, container: Container, is_init: bool = False) -> bool:
        """True when it ended well. Restarts it as the pod's policy says."""
        policy, backoff_s = self.spec["restartPolicy"], FIRST_BACKOFF_S
        while not self._stopping.is_set():
            start = self._start(container)
            if start is None:
                return False
            code = container.run(start, self._tell)
            is_wanted = (policy == "Always" and not is_init) or (policy != "Never" and code != 0)
            if self._stopping.is_set() or not is_wanted:
                self._tell()
                return code == 0
            container.wait_to_restart(backoff_s)
            self._tell()
            self._stopping.wait(backoff_s)
            backoff_s = min(2 * backoff_s, LAST_BACKOFF_S)
        return False

    def _start(self, container: Container) -> Start | None:
        """What the container's process gets, as soon as all of it is there; None when the pod is stopped before."""
        while not self._stopping.is_set():
            try:
                return self._prepare(container)
            except NotYet as why:
                container.state = {"waiting": {"reason": why.reason, "message": why.message}}
                self._tell()
            except HTTPError:
                pass
            self._stopping.wait(LOOK_AGAIN_S)
        return None

    def _prepare(self, container: Container) -> Start:
        spec = container.spec
        if spec["image"] in self.node.missing_images:
            raise NotYet("ImagePullBackOff", f'Back-off pulling image "{spec["image"]}"')
        mounts = {each["mountPath"]: self._mounted(each) for each in spec.get("volumeMounts") or []}
        env = {"PATH": PATH, "HOME": str(self.folder), "HOSTNAME": self.spec.get("hostname") or self.metadata["name"]}
        if "/tmp" in mounts:
            env["TMPDIR"] = str(mounts["/tmp"])
        env.update({name: self._translated(value, mounts) for name, value in self._variables(spec).items()})
        env.update(self.node.env)
        words = [*(spec.get("command") or []), *(spec.get("args") or [])]
        argv = [self._translated(expand(word, env), mounts) for word in words]
        argv = [self.node.replaced.get(word, word) for word in argv] or ["(the image's own command)"]
        self._env[spec["name"]] = env
        log = self.folder / f"{spec['name']}-{container.restarts}.log"
        mark = f"{self.metadata['uid']}-{spec['name']}"
        place = self._translated(spec.get("workingDir") or str(self.node.working_folder), mounts)
        return Start(argv, env, Path(place), log, mark)

    def _mounted(self, mount: Json) -> Path:
        """The folder that stands for the mount."""
        volume = next(each for each in self.spec["volumes"] if each["name"] == mount["name"])
        folder = self.folder / "volumes" / mount["name"]
        if claim := volume.get("persistentVolumeClaim"):
            folder = self.node.folder / "claims" / self.metadata["namespace"] / claim["claimName"]
        folder.mkdir(parents=True, exist_ok=True)
        for kind, name in (("configMap", "name"), ("secret", "secretName")):
            if source := volume.get(kind):
                files = self._data(kind, source[name], bool(source.get("optional")))
                items = {each["key"]: each["path"] for each in source.get("items") or []} or {key: key for key in files}
                for key, path in items.items():
                    (folder / path).parent.mkdir(parents=True, exist_ok=True)
                    (folder / path).write_bytes(files[key])
        inside: Path = folder / mount.get("subPath", "")
        return inside

    def _data(self, kind: str, name: str, is_optional: bool) -> dict[str, bytes]:
        plural = "secrets" if kind == "secret" else "configmaps"
        try:
            found = self.node.api.ask("GET", f"/api/v1/namespaces/{self.metadata['namespace']}/{plural}/{name}")
        except Refusal as refusal:
            if refusal.status == 404 and is_optional:
                return {}
            raise NotYet("CreateContainerConfigError", f'{kind.lower()} "{name}" not found') from refusal
        data = found.get("data") or {}
        if kind == "secret":
            return {key: base64.b64decode(value) for key, value in data.items()}
        return {key: value.encode() for key, value in data.items()}

    def _variables(self, spec: Json) -> dict[str, str]:
        env: dict[str, str] = {}
        for source in spec.get("envFrom") or []:
            kind = "secret" if "secretRef" in source else "configMap"
            ref = source.get("secretRef") or source["configMapRef"]
            found = self._data(kind, ref["name"], bool(ref.get("optional")))
            env.update({source.get("prefix", "") + key: value.decode() for key, value in found.items()})
        for each in spec.get("env") or []:
            source = each.get("valueFrom")
            value = self._value(source) if source else expand(each.get("value", ""), env)
            if value is not None:
                env[each["name"]] = value
        return env

    def _value(self, source: Json) -> str | None:
        if field := source.get("fieldRef"):
            return self._field(field["fieldPath"])
        kind = "secret" if "secretKeyRef" in source else "configMap"
        ref = source.get("secretKeyRef") or source["configMapKeyRef"]
        found = self._data(kind, ref["name"], bool(ref.get("optional"))).get(ref["key"])
        if found is None and not ref.get("optional"):
            raise NotYet("CreateContainerConfigError", f"couldn't find key {ref['key']} in {ref['name']}")
        return None if found is None else found.decode()

    def _field(self, path: str) -> str:
        if match := FIELD.fullmatch(path):
            return str((self.metadata.get(match[1]) or {}).get(match[2], ""))
        if path in ("status.podIP", "status.podIPs", "status.hostIP"):
            return self.address if path != "status.hostIP" else "127.0.0.1"
        part, _, name = path.partition(".")
        return str(self.pod[part].get(name, ""))

    def _translated(self, text: str, mounts: Mapping[str, Path]) -> str:
        """Mount paths become the folders that stand for them, names of pods and 0.0.0.0 addresses of this machine."""
        for path in sorted(mounts, key=len, reverse=True):
            if path not in SHARED_MOUNTS:
                text = re.sub(rf"(?<![\w./-]){re.escape(path)}(?![\w.-])", str(mounts[path]), text)
                text = text.replace(f"file://{path}", f"file://{mounts[path]}")
        if subdomain := self.spec.get("subdomain"):
            namespace = self.metadata["namespace"]
            name = rf"([a-z0-9-]+)\.{re.escape(subdomain)}(\.{re.escape(namespace)}(\.svc(\.cluster\.local)?)?)?\b"
            text = re.sub(name, lambda match: self.node.address_of(namespace, match[1]), text)
        return text.replace("0.0.0.0", self.address) if self.node.own_addresses else text

    def _tell(self) -> None:
        """Reports to the API server, until it listens or nobody wants to know any more."""
        with self._telling:
            while not self.node.is_stopped:
                if self.node.report(self.metadata, self._status()):
                    return
                time.sleep(LOOK_AGAIN_S)

    def _status(self) -> Json:
        is_ready = all(each.is_ready for each in self.containers) and not self._stopping.is_set()
        stamp = _now()
        facts = {
            "Initialized": all(each.exit_code == 0 for each in self.inits),
            "ContainersReady": is_ready,
            "Ready": is_ready,
            "PodScheduled": True,
        }
        return {
            "phase": self._phase(),
            "hostIP": "127.0.0.1",
            "podIP": self.address,
            "podIPs": [{"ip": self.address}],
            "startTime": self._started,
            "conditions": [
                {"type": name, "status": str(is_so), "reason": "", "message": "", "lastTransitionTime": stamp}
                for name, is_so in facts.items()
            ],
            "initContainerStatuses": [each.status() for each in self.inits],
            "containerStatuses": [each.status() for each in self.containers],
        }

    def _phase(self) -> str:
        if self.is_over:
            return "Succeeded" if all(each.exit_code == 0 for each in [*self.inits, *self.containers]) else "Failed"
        has_started = any("waiting" not in each.state or each.restarts for each in self.containers)
        return "Running" if has_started else "Pending"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
