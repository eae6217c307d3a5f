"""Jobs: processes to run somewhere, which outlive who asked for them. Training, imports and engines start only here.

What every adapter promises (tests/jobs/test_contract.py):

- `submit` is idempotent by id: a job that is there is returned, not started twice;
- a job survives the death of its owner; any later owner finds it by its id, with its exit code and log;
- a job that does not fit waits (QUEUED) until others end, and `waiting` says in words for what;
- `cancel` asks the whole process group to stop (SIGTERM), then makes it (SIGKILL after `grace_s`).

    runner = open_runner(settings)
    status = runner.submit(JobSpec(id="training-1f3a-1", command=[...], cpus=2))
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from lrm_safety.errors import InvalidInput
from lrm_safety.settings import Settings


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"  # exit code 0
    FAILED = "failed"  # any other exit code, or the machine lost it
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class JobSpec:
    id: str  # ≤ 63 characters of [a-z0-9-]: a Kubernetes name
    command: list[str]
    env: dict[str, str] = field(default_factory=dict)
    cpus: float = 1
    memory_gib: float = 1
    gpus: int = 0
    nodes: int = 1
    node_pool: str = ""
    queue: str = ""
    image: str = ""
    port: int = 0  # set = a server: runs until cancelled


@dataclass(frozen=True)
class JobStatus:
    id: str
    state: JobState
    exit_code: int | None = None  # as shells count: 128 + n when signal n ended it; None when nobody saw it end
    host: str = "localhost"  # where a server's port is
    waiting: str = ""  # QUEUED: for what, in words
    reason: str = ""  # ended: why, in words, where the exit code does not say it
    started_at: float = 0.0

    @property
    def has_ended(self) -> bool:
        return self.state in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


class JobRunner(Protocol):
    def submit(self, spec: JobSpec) -> JobStatus: ...

    def status(self, job_id: str) -> JobStatus:
        """Raises NotFound."""

    def logs(self, job_id: str, tail: int = 50) -> str:
        """Last lines of stdout and stderr together; from the store once the job has ended."""

    def cancel(self, job_id: str, grace_s: float = 10.0) -> JobStatus:
        """Returns when the job has ended."""


def open_runner(settings: Settings) -> JobRunner:
    """The adapter that LRM_JOBS names."""
    if settings.jobs == "local":
        from lrm_safety.jobs.local import LocalRunner

        return LocalRunner(settings)
    raise InvalidInput(f"LRM_JOBS is {settings.jobs!r}; expected: local")
