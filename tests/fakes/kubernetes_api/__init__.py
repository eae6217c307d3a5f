"""A Kubernetes API server in this process: real HTTP, real resourceVersion semantics, controllers, faults on demand.

    with KubernetesApi() as api:
        ...  # any client at api.url, or with the file that api.kubeconfig(folder) writes
        api.fail_next(429, retry_after=1)

It behaves as Kubernetes 1.34 does in what it has; the probe that a real server passes runs over it too
(tests/fakes/test_kubernetes_api.py). It has a scheduler but no node: tests/fakes/process_node.py is one.
"""

import threading
import time
from pathlib import Path
from types import TracebackType

import yaml

from tests.fakes.kubernetes_api import collecting, scheduler
from tests.fakes.kubernetes_api.deployment_controller import DeploymentController
from tests.fakes.kubernetes_api.faults import Fault
from tests.fakes.kubernetes_api.job_controller import JobController
from tests.fakes.kubernetes_api.objects import Objects
from tests.fakes.kubernetes_api.resources import NAMESPACES, Resources
from tests.fakes.kubernetes_api.server import Application, Listener
from tests.fakes.kubernetes_api.store import Store

TICK_S = 0.2  # how often deadlines are looked at when nothing changes
REST_S = 0.01  # between two rounds of the controllers
FIRST_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")


class KubernetesApi:
    def __init__(self) -> None:
        self._objects = Objects(Store(), Resources())
        self._application = Application(self._objects)
        self._listener: Listener | None = None
        self._port = 0
        self._is_over = False
        self._jobs = JobController(self._objects)
        self._deployments = DeploymentController(self._objects)
        for name in FIRST_NAMESPACES:
            self._objects.create(NAMESPACES, "", {"metadata": {"name": name}})
        self.up()
        self._controllers = threading.Thread(target=self._control, daemon=True)
        self._controllers.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def requests(self) -> list[tuple[str, str]]:
        """(method, path?query) of every request so far."""
        return self._application.requests

    def kubeconfig(self, folder: Path, namespace: str = "default") -> Path:
        path = folder / "fake.kubeconfig"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "fake", "cluster": {"server": self.url}}],
            "users": [{"name": "admin", "user": {}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "admin", "namespace": namespace}}],
            "current-context": "fake",
        }
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        return path

    def fail_next(
        self, status: int, count: int = 1, retry_after: float | None = None, method: str = "", path: str = ""
    ) -> None:
        """The next requests (with that method and that part in their address) get this status."""
        self._application.faults.planned.append(Fault(count, method, path, status, retry_after))

    def lose_next_answer(self, count: int = 1, method: str = "", path: str = "") -> None:
        """The next requests are carried out, but the connection breaks before the answer."""
        self._application.faults.planned.append(Fault(count, method, path))

    def drop_watches(self) -> None:
        self._application.breaks += 1
        self._ring()

    def compact(self) -> None:
        """Forgets all history: any watch or list from an earlier resourceVersion gets 410."""
        self._objects.store.compact()

    def down(self) -> None:
        """Refuses connections and cuts those that are open; what is stored stays, controllers go on."""
        if self._listener:
            self._application.is_up = False
            self._listener.stop()
            self._listener = None

    def up(self) -> None:
        """Listens again, at the same address."""
        if not self._listener:
            self._listener = Listener(self._application, self._port)
            self._port = self._listener.server_address[1]
            self._application.is_up = True

    def close(self) -> None:
        self._is_over = True
        self._ring()
        self.down()
        self._controllers.join(5)

    def __enter__(self) -> "KubernetesApi":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _ring(self) -> None:
        with self._objects.store.changed:
            self._objects.store.changed.notify_all()

    def _control(self) -> None:
        store, seen = self._objects.store, -1
        while not self._is_over:
            with store.changed:
                if store.revision == seen:
                    store.changed.wait(TICK_S)
                seen = store.revision
                self._step()
            time.sleep(REST_S)

    def _step(self) -> None:
        """One round of every controller. Their own writes ask for another."""
        collecting.look_after_namespaces(self._objects)
        self._jobs.step()
        self._deployments.step()
        scheduler.schedule(self._objects)
        collecting.collect(self._objects)
        collecting.count_quotas(self._objects)
