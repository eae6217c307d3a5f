"""Processes of this machine: a reused pid fools nobody, and an end leaves no descendant. Linux only."""

import ctypes
import os
import select
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
MARK = "LRM_JOB"  # in the environment of a job's processes, descendants included: which job they belong to
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Process:
    """One process for ever: a pid is used again, a pid with its start time and boot is not."""

    pid: int
    started: int  # clock ticks since boot
    boot: str

    @classmethod
    def of(cls, pid: int) -> "Process | None":
        """None when there is none, or only its zombie."""
        try:
            fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        return None if fields[0] in "ZX" else cls(pid, int(fields[19]), boot)

    def is_alive(self) -> bool:
        return Process.of(self.pid) == self

    def open(self) -> int | None:
        """A descriptor that becomes readable when the process ends (the caller closes it); None when it has ended."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return None
        if self.is_alive():
            return descriptor
        os.close(descriptor)
        return None


class StopSignal:
    """SIGTERM as something to wait for, together with the ends of processes. One a process, in its main thread."""

    def __init__(self) -> None:
        self.asked = False
        self._rung, ring = os.pipe()
        os.set_blocking(self._rung, False)
        os.set_blocking(ring, False)
        signal.set_wakeup_fd(ring)
        signal.signal(signal.SIGTERM, self._ask)

    def wait(self, ends: Sequence[int], timeout_s: float) -> bool:
        """Until one of the processes ended (True), SIGTERM came or the time is over (False)."""
        ended = wait_for_end([self._rung, *ends], timeout_s)
        with suppress(BlockingIOError):
            os.read(self._rung, 64)
        return any(descriptor in ends for descriptor in ended)

    def _ask(self, *_: object) -> None:
        self.asked = True


def wait_for_end(ends: Sequence[int], timeout_s: float) -> list[int]:
    """Those of the descriptors that became readable: at least one, unless the time is over."""
    poll = select.poll()
    for descriptor in ends:
        poll.register(descriptor, select.POLLIN)
    return [descriptor for descriptor, _ in poll.poll(timeout_s * 1000)]


class DieWithParent:
    """For `preexec_fn`: the kernel kills the child when its parent dies, however it dies."""

    def __init__(self) -> None:
        self._parent = os.getpid()
        self._prctl = ctypes.CDLL(None).prctl  # looked up before the fork, where little is allowed

    def __call__(self) -> None:
        self._prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != self._parent:  # it died in between
            os._exit(1)


def kill_marked(mark: str) -> None:
    """Kills every process whose environment says LRM_JOB=`mark`, also those that left their parent's group."""
    for _ in range(20):
        marked = [pid for pid in _all_pids() if pid != os.getpid() and _is_marked(pid, mark)]
        if not marked:
            return
        for pid in marked:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)  # for the kernel to take them away, and for what they had forked to show


def _all_pids() -> list[int]:
    return [int(path.name) for path in PROC.iterdir() if path.name.isdigit()]


def _is_marked(pid: int, mark: str) -> bool:
    with suppress(OSError):  # gone, or another user's
        return f"{MARK}={mark}".encode() in (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    return False
