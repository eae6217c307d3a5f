"""Jobs as processes of this machine: the default runner. Each job has a supervisor (supervise.py) that outlives us."""

import os
import signal
import subprocess
import sys
import threading

from lrm_safety.errors import Conflict, InvalidInput, NotFound, Unavailable
from lrm_safety.jobs import JOB_ID, JobSpec, JobState, JobStatus, machine
from lrm_safety.jobs.folder import Cancel, Ended, JobFolder, JobFolders, log_key
from lrm_safety.jobs.processes import MARK, wait_for_end
from lrm_safety.jobs.supervise import port_is_taken
from lrm_safety.jobs.turn import words
from lrm_safety.settings import Settings, process_env
from lrm_safety.store import open_store

SHOWN_LOG_BYTES = 1 << 20  # at most, of a job that runs
CLEAN_UP_S = 120.0  # for a supervisor, after the grace: to kill what is left and to store the log


class LocalRunner:
    """See `lrm_safety.jobs` for the promises. Everything it knows is in files: any runner on this machine, in whatever
    process, sees the same jobs. Jobs see our environment, our settings and their own `env`; paths in a command are
    relative to the working folder of whoever submits.
    """

    def __init__(self, settings: Settings) -> None:
        self._folders = JobFolders(settings.state_dir.absolute() / "jobs")
        self._store = open_store(settings)
        self._env = settings.to_env()

    def submit(self, spec: JobSpec) -> JobStatus:
        """Raises InvalidInput for a job this machine can never run, Conflict when its port is taken."""
        _check(spec)
        job = self._folders[spec.id]
        if job.spec() is None:
            self._check_port(spec)
            job.submit(spec)
        if job.supervisor() is None and job.ended() is None:
            self._start_supervisor(job)
        return self.status(spec.id)

    def status(self, job_id: str) -> JobStatus:
        job = self._find(job_id)
        ended = job.ended() or self._settle(job)
        running = job.running()
        started_at = running.started_at if running else 0.0
        if ended:
            state = JobState(ended.state)
            return JobStatus(job_id, state, ended.exit_code, started_at=started_at, reason=ended.reason)
        if running:
            return JobStatus(job_id, JobState.RUNNING, started_at=started_at)
        if job.supervisor() is None:
            return JobStatus(job_id, JobState.QUEUED, waiting="nobody looks after it yet; submit it again")
        return JobStatus(job_id, JobState.QUEUED, waiting=words(self._folders, job))

    def logs(self, job_id: str, tail: int = 50) -> str:
        """Raises NotFound. The store is asked first for a job that has ended, or that ran on another machine."""
        job = self._folders[job_id] if JOB_ID.fullmatch(job_id) else self._find(job_id)
        data = None
        if job.spec() is None or job.ended():
            data = self._stored_log(job_id)
        if data is None:
            data = self._find(job_id).log_tail(SHOWN_LOG_BYTES)
        return "\n".join(data.decode(errors="replace").splitlines()[-tail:])

    def cancel(self, job_id: str, grace_s: float = 10.0) -> JobStatus:
        job = self._find(job_id)
        if job.ended() is None:
            job.ask_for_end(Cancel(grace_s))
            self._stop_supervisor(job, grace_s)
        return self.status(job_id)

    def note_at_stake(self, job_id: str, gpu_seconds: float) -> None:
        """Nobody stops a job of this machine to make room for another."""

    def machine(self, node_pool: str = "", image: str = "worker") -> machine.Machine:
        if node_pool:
            raise InvalidInput(f"node_pool is {node_pool!r}; this is one machine, which has no pools: leave it out")
        return machine.detect()

    def close(self) -> None:
        """It holds nothing."""

    def _find(self, job_id: str) -> JobFolder:
        if not JOB_ID.fullmatch(job_id) or self._folders[job_id].spec() is None:
            raise NotFound(f"there is no job {job_id!r} on this machine ({self._folders.root})")
        return self._folders[job_id]

    def _settle(self, job: JobFolder) -> Ended | None:
        ended = job.settle()
        if ended and ended.exit_code is None:  # nobody was left to do it
            job.store_log(self._store)
        return ended

    def _stored_log(self, job_id: str) -> bytes | None:
        try:
            return self._store.read(log_key(job_id))
        except (NotFound, Unavailable):  # the local file still has it
            return None

    def _check_port(self, spec: JobSpec) -> None:
        if not spec.port:
            return
        for job in self._folders.going_on():
            other = job.spec()
            if other and other.port == spec.port and job.id != spec.id:
                raise Conflict(f"port {spec.port} is promised to job {job.id}; cancel that one or choose another port")
        if port_is_taken(spec.port):
            raise Conflict(f"port {spec.port} is in use by another process; stop that one or choose another port")

    def _start_supervisor(self, job: JobFolder) -> None:
        """Returns when the job has its supervisor: ours, or another runner's that was quicker."""
        with job.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "lrm_safety.jobs.supervise", str(job.path)],
                env=process_env({**self._env, MARK: ""}),  # it is no part of the job that we may run in
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        if process.stdout:
            process.stdout.read()
            process.stdout.close()
        threading.Thread(target=process.wait, daemon=True).start()  # lest it stays a zombie of ours
        if job.supervisor() is None:
            job.end(Ended(JobState.FAILED, None, f"its supervisor did not start; {job.log} says why"))

    def _stop_supervisor(self, job: JobFolder, grace_s: float) -> None:
        supervisor = job.supervisor()
        end = supervisor.open() if supervisor else None
        if end is None:  # nobody looks after it: it never started, or `status` finds that the machine lost it
            if supervisor is None:
                job.end(Ended(JobState.CANCELLED, None, "cancelled before it started"))
            return
        try:
            signal.pidfd_send_signal(end, signal.SIGTERM)
            if not wait_for_end([end], grace_s + CLEAN_UP_S):
                signal.pidfd_send_signal(end, signal.SIGKILL)
                wait_for_end([end], CLEAN_UP_S)
        except ProcessLookupError:
            pass  # it ended by itself meanwhile
        finally:
            os.close(end)


def _check(spec: JobSpec) -> None:
    has = machine.detect()
    wrong = {
        "id": not JOB_ID.fullmatch(spec.id) and f"is {spec.id!r}; expected at most 63 of a-z, 0-9 and '-'",
        "command": not (spec.command and all(spec.command[:1])) and "is empty; expected a program and its arguments",
        "nodes": spec.nodes > 1 and f"is {spec.nodes}; the local runner has one machine",
        "memory_gib": spec.memory_gib > has.memory_gib
        and f"is {spec.memory_gib:g}; this machine has {has.memory_gib:.1f}",
        "gpus": spec.gpus > has.gpus and f"is {spec.gpus}; this machine has {has.gpus}",
        "cpus, memory_gib or gpus": min(spec.cpus, spec.memory_gib, spec.gpus) < 0 and "is negative",
        "port": not 0 <= spec.port < 65536 and f"is {spec.port}; expected 1 to 65535, or 0 for none",
    }
    if found := [f"{name} {problem}" for name, problem in wrong.items() if problem]:
        raise InvalidInput(f"job {spec.id!r} cannot run here: {'; '.join(found)}")
