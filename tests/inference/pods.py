"""A JobRunner whose engines are scripted processes on loopback addresses of their own, as pods are.

It keeps a cluster's promises as far as inference needs them: weights are in place before an engine starts, hosts are
those that answer, a cancelled job has ended. All runners of one Pods see the same jobs.
"""

import random
import subprocess
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError

from lrm_safety.errors import NotFound
from lrm_safety.jobs import JobSpec, JobState, JobStatus
from lrm_safety.jobs.machine import Machine
from lrm_safety.store import ObjectStore
from services.inference import weights
from tests.fakes.engine_process import install


@dataclass
class Engine:
    spec: JobSpec
    started_at: float = 0.0
    state: JobState = JobState.RUNNING
    pods: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)  # by address


class Pods:
    def __init__(self, store: ObjectStore, folder: Path, machine: Machine) -> None:
        self._store, self._folder, self._machine = store, folder, machine
        self._python = install(folder / "bin")
        self._net = f"127.{random.randint(64, 250)}.{random.randint(1, 250)}"
        self._lock = threading.RLock()
        self.engines: dict[str, Engine] = {}
        self.submitted: list[JobSpec] = []
        self.cancelled: list[str] = []
        self.waiting = ""  # set: nothing starts, and this is why

    def submit(self, spec: JobSpec) -> JobStatus:
        with self._lock:
            if spec.id in self.engines:
                assert self.engines[spec.id].spec == spec
                return self.status(spec.id)
            self.submitted.append(spec)
            self.engines[spec.id] = Engine(spec, time.time())
            for _ in range(spec.replicas):
                self.start_pod(spec.id)
            return self.status(spec.id)

    def start_pod(self, job: str) -> str:
        """The address of one more replica."""
        spec = self.engines[job].spec
        host = f"{self._net}.{sum(len(engine.pods) for engine in self.engines.values()) + 1}"
        models = self._folder / "models"
        weights.put(self._store, spec.weights, models)
        words = [word.replace("/var/lib/lrm/models", str(models)) for word in spec.command[1:]]
        command = [str(self._python), *(host if word == "0.0.0.0" else word for word in words)]
        self.engines[job].pods[host] = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        return host

    def kill_pod(self, job: str, host: str) -> None:
        self.engines[job].pods[host].kill()
        self.engines[job].pods[host].wait()

    def status(self, job_id: str) -> JobStatus:
        engine = self.engines.get(job_id)
        if engine is None:
            raise NotFound(f"there is no job {job_id!r}")
        if self.waiting and engine.state is JobState.RUNNING:
            return JobStatus(job_id, JobState.QUEUED, hosts=(), waiting=self.waiting)
        alive = [host for host, pod in engine.pods.items() if pod.poll() is None]
        hosts = tuple(host for host in alive if _answers(f"http://{host}:{engine.spec.port}/health"))
        return JobStatus(job_id, engine.state, hosts=hosts, started_at=engine.started_at)

    def logs(self, job_id: str, tail: int = 50) -> str:
        return ""

    def cancel(self, job_id: str, grace_s: float = 10.0) -> JobStatus:
        with self._lock:
            engine = self.engines[job_id]
            if engine.state is JobState.RUNNING:
                self.cancelled.append(job_id)
                for host in engine.pods:
                    self.kill_pod(job_id, host)
                engine.state = JobState.CANCELLED
        return self.status(job_id)

    def note_at_stake(self, job_id: str, gpu_seconds: float) -> None:
        """Engines have nothing at stake."""

    def machine(self, node_pool: str = "", image: str = "worker") -> Machine:
        return self._machine

    def close(self) -> None:
        """Pods go on."""

    def stop(self) -> None:
        for job in self.engines:
            self.cancel(job)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False
