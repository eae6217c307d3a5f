"""Who owns a run: one object a claim, made by put-if-absent, so an epoch has one owner; the newest epoch counts.

runs/<id>/epochs/<epoch>.json    who, and since when; rewritten once, when the owner hands the run over
"""

import os
import socket
import time
from dataclasses import dataclass

from lrm_safety.nouns import Run, has_ended
from lrm_safety.store import ObjectStore

DEAD_AFTER_S = 30.0  # an owner on another machine that has not written for so long is gone
_HANDED_OVER = "handed-over"


@dataclass
class _Owner:
    """Alive = the process is there (same machine) or its heartbeat is fresh (another)."""

    host: str
    pid: int
    started: str
    claimed_at: float

    @classmethod
    def here(cls) -> "_Owner":
        return cls(socket.gethostname(), os.getpid(), _process_start(os.getpid()), time.time())

    def text(self) -> bytes:
        return f"{self.host} {self.pid} {self.started} {self.claimed_at}".encode()

    @classmethod
    def parse(cls, data: bytes) -> "_Owner":
        host, pid, started, claimed_at = data.decode().split(" ")
        return cls(host, int(pid), started, float(claimed_at))

    def is_alive(self, heartbeat: float) -> bool:
        if self.started == _HANDED_OVER:
            return False
        if self.host == socket.gethostname():
            return _process_start(self.pid) == self.started
        return time.time() - max(heartbeat, self.claimed_at) < DEAD_AFTER_S


def newest(store: ObjectStore, run: str) -> int:
    """0 when nobody has claimed it."""
    return max((int(key.rsplit("/", 1)[1][:6]) for key in store.list(f"runs/{run}/epochs/")), default=0)


def claim(store: ObjectStore, run: str, epoch: int) -> bool:
    """False when another process took this epoch at this moment."""
    return store.create(_key(run, epoch), _Owner.here().text())


def hand_over(store: ObjectStore, run: str, epoch: int) -> None:
    """From now on the run has no owner, and needs not wait until a heartbeat grows old."""
    owner = _Owner.here()
    owner.started = _HANDED_OVER
    store.write(_key(run, epoch), owner.text())


def has_living_owner(store: ObjectStore, run: Run) -> bool:
    """Asks the newest epoch, which may have been claimed after `run` was written."""
    epoch = newest(store, run.id)
    if epoch == 0 or (epoch == run.epoch and has_ended(run)):
        return False
    return _Owner.parse(store.read(_key(run.id, epoch))).is_alive(run.updated_at)


def _key(run: str, epoch: int) -> str:
    return f"runs/{run}/epochs/{epoch:06d}.json"


def _process_start(pid: int) -> str:
    """Start time of a process in clock ticks since boot; empty when there is no such process. Survives pid reuse."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rsplit(")", 1)[1].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return ""
