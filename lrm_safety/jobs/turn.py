"""Whose turn it is: the jobs that run at once never need more cpus, memory or GPUs than this machine has.

Jobs start in the order in which they were submitted, but one that fits does not wait behind one that does not: a server
that runs until cancelled must not block, through a big job waiting for it to end, the small one that will cancel it.
"""

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from lrm_safety.jobs.folder import JobFolder, JobFolders, Running
from lrm_safety.jobs.machine import detect, gpu_ids
from lrm_safety.jobs.processes import Process, StopSignal

LOOK_AGAIN_S = 30.0  # should the end of a process ever go unnoticed
EPSILON = 1e-6


@dataclass(frozen=True)
class Room:
    """What a machine has, or a job needs."""

    cpus: float
    memory_gib: float
    gpus: float

    def fits(self, free: "Room") -> bool:
        return not self.lacks(free)

    def lacks(self, free: "Room") -> list[str]:
        """Names of what there is not enough of."""
        return [name for name in ("cpus", "memory_gib", "gpus") if getattr(self, name) > getattr(free, name) + EPSILON]

    def minus(self, other: "Room") -> "Room":
        return Room(self.cpus - other.cpus, self.memory_gib - other.memory_gib, self.gpus - other.gpus)


@dataclass(frozen=True)
class Claim:
    """A job that runs or waits, and what it needs."""

    folder: JobFolder
    needs: Room
    running: Running | None
    supervisor: Process


def machine() -> Room:
    """What the jobs of this machine share."""
    has = detect()
    return Room(float(has.cpus), has.memory_gib, float(has.gpus))


def wait_for_turn(folders: JobFolders, job: JobFolder, stop: StopSignal) -> Running | None:
    """Sleeps until the job fits, then claims its room; None when its end was asked for first."""
    while not (stop.asked or job.cancel()):
        with _one_at_a_time(folders):
            claims = list(_claims(folders))
            if _blockers(job, claims) is None:
                running = Running(time.time(), _free_gpus(job, claims))
                job.run(running)
                return running
        _sleep_until_one_ends([claim.supervisor for claim in claims if claim.folder.id != job.id], stop)
    return None


def words(folders: JobFolders, job: JobFolder) -> str:
    """For what a queued job waits."""
    blockers = _blockers(job, list(_claims(folders)))
    return blockers or "for its supervisor to start it"


def _claims(folders: JobFolders) -> Iterator[Claim]:
    for folder in folders.going_on():
        spec, supervisor = folder.spec(), folder.supervisor()
        if spec and supervisor:
            cpus = min(spec.cpus, os.cpu_count() or 1)  # asking for more than all of them means all of them
            needs = Room(cpus, spec.memory_gib, spec.gpus)
            yield Claim(folder, needs, folder.running(), supervisor)


def _blockers(job: JobFolder, claims: Sequence[Claim]) -> str | None:
    """What the job waits for, in words; None when it fits now, beside all that run or are ahead of it and fit."""
    total = free = machine()
    holding = [claim for claim in claims if claim.running]
    for claim in holding:
        free = free.minus(claim.needs)
    for claim in claims:
        if claim.running:
            continue
        lacking = claim.needs.lacks(free)
        if claim.folder.id == job.id:
            return "; ".join(_lack(name, claim.needs, free, total, holding) for name in lacking) or None
        if not lacking:
            free = free.minus(claim.needs)
            holding.append(claim)
    return None


def _lack(name: str, needs: Room, free: Room, total: Room, holding: Sequence[Claim]) -> str:
    held = ", ".join(
        f"{claim.folder.id} ({getattr(claim.needs, name):g})" for claim in holding if getattr(claim.needs, name) > 0
    )
    return (
        f"for {getattr(needs, name):g} {name}: {max(0.0, getattr(free, name)):g} of {getattr(total, name):g} are free; "
        f"held by {held}"
    )


def _free_gpus(job: JobFolder, claims: Sequence[Claim]) -> list[str]:
    taken = {gpu for claim in claims if claim.running for gpu in claim.running.gpus}
    needed = next(int(claim.needs.gpus) for claim in claims if claim.folder.id == job.id)
    return [gpu for gpu in gpu_ids() if gpu not in taken][:needed] if needed else []


def _sleep_until_one_ends(processes: Sequence[Process], stop: StopSignal) -> None:
    opened = [process.open() for process in processes]
    ends = [descriptor for descriptor in opened if descriptor is not None]
    try:
        if len(ends) == len(opened):  # else one has ended already
            stop.wait(ends, LOOK_AGAIN_S)
    finally:
        for descriptor in ends:
            os.close(descriptor)


@contextmanager
def _one_at_a_time(folders: JobFolders) -> Iterator[None]:
    with (folders.root / ".turn").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
