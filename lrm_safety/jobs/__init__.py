"""Jobs: processes to run somewhere, which outlive who asked for them. Training, imports and engines start only here.

What every adapter promises (tests/jobs/test_contract.py):

- `submit` is idempotent by id: a job that is there is returned, not started twice;
- a job survives the death of its owner; any later owner finds it by its id, with its exit code and log;
- a job that does not fit waits (QUEUED) until others end, and `waiting` says in words for what;
- `cancel` asks the whole process group to stop (SIGTERM), then makes it (SIGKILL after `grace_s`).

    runner = open_runner(settings)
    status = runner.submit(JobSpec(id="training-1f3a-1", command=[PYTHON, "-m", ...], cpus=2))
"""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from lrm_safety.errors import InvalidInput
from lrm_safety.jobs.machine import Machine
from lrm_safety.settings import Settings

JOB_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")  # a name that everything accepts, the strictest included
PYTHON = "python"  # first in a command: the interpreter of the job's image; on one machine, ours


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
    gpus: int = 0  # of each node
    nodes: int = 1  # above 1: `$(NODE_RANK)`, `$(MASTER_ADDR)`, `$(MASTER_PORT)` in the command are replaced on each
    node_pool: str = ""  # a name from the cluster's configuration; empty = the one for its image
    image: str = "worker"  # service | worker | engine: which of the cluster's images; one machine has one of each
    port: int = 0  # set = a server: runs until cancelled
    replicas: int = 1  # of a server
    weights: str = ""  # checkpoint reference: its files are in models/<digest> of the state folder before it starts
    kind: str = ""  # training | import | engine: what its cost is for
    run: str = ""  # that it works for
    team: str = ""  # who pays
    cost_centre: str = ""
    priority: str = "normal"  # urgent | normal | filler: who is stopped for whom, where that is decided


@dataclass(frozen=True)
class JobStatus:
    id: str
    state: JobState
    exit_code: int | None = None  # as shells count: 128 + n when signal n ended it; None when nobody saw it end
    hosts: tuple[str, ...] = ("localhost",)  # where a server's port is: one a replica that takes requests
    waiting: str = ""  # QUEUED, or a server of which no replica takes requests yet: for what, in words
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

    def note_at_stake(self, job_id: str, gpu_seconds: float) -> None:
        """So much work would be lost if the job were stopped now; whoever chooses what to stop may heed it."""

    def machine(self, node_pool: str = "", image: str = "worker") -> Machine:
        """What one node has on which such a job would run. Raises InvalidInput when there is no such pool."""

    def close(self) -> None:
        """Lets go of what the runner itself holds (watches, connections); jobs go on."""


def open_runner(settings: Settings) -> JobRunner:
    """The adapter that LRM_JOBS names."""
    if settings.jobs == "local":
        from lrm_safety.jobs.local import LocalRunner

        return LocalRunner(settings)
    if settings.jobs == "cluster":
        from lrm_safety.jobs.cluster import ClusterRunner

        return ClusterRunner(settings)
    raise InvalidInput(f"LRM_JOBS is {settings.jobs!r}; expected: local or cluster")
