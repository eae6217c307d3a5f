"""A job's folder on this machine, `<state>/jobs/<id>/`: what its supervisor and any runner know about it.

    spec.json        who wrote it first submitted the job
    supervisor.json  the one process that looks after it, for ever: pid, start time, boot
    running.json     its turn came: since when, on which GPUs
    cancel.json      somebody wants its end, and grants so many seconds for it
    ended.json       how it ended; written last
    output.log       stdout and stderr of the command

Every file is written whole or not at all, and those with one author are made by put-if-absent: no locks, no database.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from lrm_safety.errors import NotFound
from lrm_safety.jobs import JobSpec, JobState
from lrm_safety.jobs.processes import Process, kill_marked
from lrm_safety.store import ObjectStore
from lrm_safety.store.files import FileStore

KEPT_LOG_BYTES = 10 << 20  # of a log that goes to the store: its end
T = TypeVar("T")


@dataclass(frozen=True)
class Running:
    started_at: float
    gpus: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Cancel:
    grace_s: float


@dataclass(frozen=True)
class Ended:
    state: JobState
    exit_code: int | None = None
    reason: str = ""


class JobFolders:
    """All jobs of this machine. The folder is for its owner only: specs may hold keys in their env."""

    def __init__(self, root: Path) -> None:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.root = root.resolve()
        self.files = FileStore(self.root)

    def __getitem__(self, job_id: str) -> "JobFolder":
        return JobFolder(self, job_id)

    def going_on(self) -> "Iterator[JobFolder]":
        """Jobs that have not ended, in the order in which they were submitted. Lost ones are settled on the way."""
        paths = [path for path in self.root.glob("*/spec.json") if not path.with_name("ended.json").exists()]
        for path in sorted(paths, key=lambda path: (path.stat().st_mtime_ns, path.parent.name)):
            folder = self[path.parent.name]
            if folder.settle() is None:
                yield folder


class JobFolder:
    def __init__(self, folders: JobFolders, job_id: str) -> None:
        self.id = job_id
        self.path = folders.root / job_id
        self.log = self.path / "output.log"
        self._files = folders.files

    def submit(self, spec: JobSpec) -> bool:
        """True for the first to ask."""
        return self._create("spec", spec)

    def supervise(self, process: Process) -> bool:
        """True for the first to offer itself: a job has one supervisor in its life."""
        return self._create("supervisor", process)

    def run(self, running: Running) -> None:
        self._create("running", running)

    def ask_for_end(self, cancel: Cancel) -> None:
        self._create("cancel", cancel)

    def end(self, ended: Ended) -> None:
        self._create("ended", ended)

    def spec(self) -> JobSpec | None:
        return self._load(JobSpec, "spec")

    def supervisor(self) -> Process | None:
        return self._load(Process, "supervisor")

    def running(self) -> Running | None:
        return self._load(Running, "running")

    def cancel(self) -> Cancel | None:
        return self._load(Cancel, "cancel")

    def ended(self) -> Ended | None:
        return self._load(Ended, "ended")

    def settle(self) -> Ended | None:
        """How the job ended, None while it goes on. One whose supervisor died is ended here, with all its processes."""
        supervisor = self.supervisor()
        is_lost = supervisor is not None and not supervisor.is_alive()
        ended = self.ended()  # read after the look at the process: ending is the last thing that a supervisor does
        if ended or supervisor is None or not is_lost:
            return ended
        kill_marked(str(self.path))
        state = JobState.CANCELLED if self.cancel() else JobState.FAILED
        self.end(Ended(state, None, f"the machine lost it: its supervisor (process {supervisor.pid}) died"))
        return self.ended()

    def log_tail(self, size: int) -> bytes:
        """At most the last `size` bytes of the log, whole lines."""
        try:
            with self.log.open("rb") as file:
                start = max(0, file.seek(0, 2) - size)
                file.seek(start)
                data = file.read(size)
        except FileNotFoundError:
            return b""
        return data[data.find(b"\n") + 1 :] if start else data

    def store_log(self, store: ObjectStore) -> None:
        store.write(log_key(self.id), self.log_tail(KEPT_LOG_BYTES))

    def _create(self, name: str, record: Any) -> bool:
        return self._files.create(f"{self.id}/{name}.json", json.dumps(asdict(record)).encode())

    def _load(self, kind: type[T], name: str) -> T | None:
        try:
            return kind(**json.loads(self._files.read(f"{self.id}/{name}.json")))
        except NotFound:
            return None


def log_key(job_id: str) -> str:
    """Where a job's log is in the object store once the job has ended."""
    return f"jobs/{job_id}/log"
