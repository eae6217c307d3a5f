"""Runs: long work with an identity, one owner at a time, and a memory in the store.

    runs/<id>/spec.json             what was asked; the id is the hash of it and of its inputs
    runs/<id>/epochs/<epoch>.json   who owned it when; put-if-absent, so one owner an epoch
    runs/<id>/parts/<epoch>-<n>     immutable rows; a later epoch reads them and goes on
    runs/<id>/state.json            progress of the present owner, rewritten; never trusted as done
    runs/<id>/result.json           written last: its existence means done
    runs/<id>/cancel                somebody asked for the end

Asking again is resuming: a run whose owner is gone is claimed under the next epoch. An owner that lost its run
learns it at its next commit and stops; its rows stay, and readers drop duplicate keys.
"""

import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import grpc
from google.protobuf.message import Message

from lrm_safety import costs, jsonl, observe
from lrm_safety.errors import Cancelled, Conflict, LrmError, NotFound
from lrm_safety.nouns import (
    CancelRunRequest,
    GetRunRequest,
    ListCostsRequest,
    ListCostsResponse,
    ListRunsRequest,
    ListRunsResponse,
    Progress,
    Run,
    RunSpec,
    RunState,
    Tenant,
    WatchRunRequest,
    has_ended,
)
from lrm_safety.store import ObjectStore
from lrm_safety.v1 import runs_pb2_grpc

log = observe.logger(__name__)
M = TypeVar("M", bound=Message)
HEARTBEAT_S = 5.0
DEAD_AFTER_S = 30.0  # an owner on another machine that has not written for so long is gone
OWNER_GONE = "its owner is gone; ask for it again and it goes on where it stopped"
_WATCH_S = 0.3


class Work(Protocol):
    def __call__(self, run: "OwnedRun", /) -> str: ...


def run_id(kind: str, spec: RunSpec, *inputs: str) -> str:
    """`<kind>-<16 hex>`: the same for the same question over the same inputs (digests)."""
    text = jsonl.canonical(spec) + "".join(f"\n{value}" for value in inputs).encode()
    return f"{kind}-{hashlib.sha256(text).hexdigest()[:16]}"


def read_run(store: ObjectStore, id_: str) -> Run:
    """The run as the store knows it. Raises NotFound."""
    for name in ("result", "state", "spec"):
        key = f"runs/{id_}/{name}.json"
        if store.stat(key):
            return jsonl.loads(Run, store.read(key))
    raise NotFound(f"there is no run {id_!r}; `lrm runs list` shows those there are")


def list_runs(store: ObjectStore, kind: str = "") -> list[Run]:
    """Newest first."""
    ids = sorted({key.split("/")[1] for key in store.list("runs/")})
    wanted = [id_ for id_ in ids if id_.startswith(f"{kind}-" if kind else "")]
    return sorted((_described(store, id_) for id_ in wanted), key=lambda run: -run.created_at)


def read_parts(store: ObjectStore, id_: str, kind: type[M]) -> Iterator[M]:
    """The rows of all parts of all epochs, as committed. Duplicate keys are the reader's to drop (first wins)."""
    for key in store.list(f"runs/{id_}/parts/"):
        yield from jsonl.unpack(kind, store.read(key))


@dataclass
class _Owner:
    """Who holds an epoch. Alive = the process is there (same machine) or its heartbeat is fresh (another)."""

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
        if self.host == socket.gethostname():
            return _process_start(self.pid) == self.started
        return time.time() - max(heartbeat, self.claimed_at) < DEAD_AFTER_S


class OwnedRun:
    """A claimed run, as the work sees it. All methods may be called from any thread."""

    def __init__(self, store: ObjectStore, run: Run) -> None:
        self.store, self.id, self.epoch = store, run.id, run.epoch
        self.spec = run.spec
        self._run, self._parts, self._wrote = run, 0, 0.0
        self._rate_from: tuple[str, float, float] | None = None
        self._lock = threading.RLock()

    def described(self) -> Run:
        """The run as it is now."""
        with self._lock:
            now = Run()
            now.CopyFrom(self._run)
        return now

    def progress(
        self, stage: str, done: float, total: float, unit: str, metrics: Mapping[str, float] | None = None
    ) -> None:
        """Cheap enough to call for every unit: rate and ETA are computed here, the store is written once a second."""
        with self._lock:
            rate = self._rate(stage, done)
            now = Progress(stage=stage, done=done, total=total, unit=unit, rate=rate, metrics=dict(metrics or {}))
            if rate > 0:
                now.eta_s = max(total - done, 0) / rate
            self._run.progress.CopyFrom(now)
            self._run.waiting = ""
            if time.time() - self._wrote >= 1:
                self.beat()

    def waiting(self, why: str) -> None:
        with self._lock:
            changed, self._run.waiting = self._run.waiting != why, why
            if changed:
                self.beat()

    def commit(self, rows: Sequence[Message]) -> None:
        """Rows as one immutable part. Raises Conflict when a newer epoch owns the run."""
        if not rows:
            return
        with self._lock:
            self._check_owned()
            key = f"runs/{self.id}/parts/{self.epoch:06d}-{self._parts:06d}.jsonl.zst"
            self._parts += 1
            self.store.write(key, jsonl.pack(rows))

    def parts(self, kind: type[M]) -> Iterator[M]:
        return read_parts(self.store, self.id, kind)

    def check_cancelled(self) -> None:
        """Raises Cancelled once somebody has asked for the end."""
        if self.store.stat(f"runs/{self.id}/cancel"):
            raise Cancelled(f"{self.id} was cancelled; asking for it again goes on where it stopped")

    def beat(self) -> None:
        """Writes the state: progress for people, a heartbeat for other replicas."""
        with self._lock:
            self._wrote = self._run.updated_at = time.time()
            self.store.write(f"runs/{self.id}/state.json", jsonl.dumps(self._run).encode())

    def end(self, state: "RunState.ValueType", result: str = "", error: str = "") -> None:
        """The last word of this owner. Only DONE writes the result object."""
        with self._lock:
            self._check_owned()
            self._run.state, self._run.result, self._run.error, self._run.waiting = state, result, error, ""
            self.beat()
            if state == RunState.RUN_STATE_DONE:
                self.store.create(f"runs/{self.id}/result.json", jsonl.dumps(self._run).encode())

    def _check_owned(self) -> None:
        newest = _newest_epoch(self.store, self.id)
        if newest != self.epoch:
            raise Conflict(f"{self.id} is now owned by epoch {newest}; epoch {self.epoch} stops here")

    def _rate(self, stage: str, done: float) -> float:
        now = time.monotonic()
        if self._rate_from is None or self._rate_from[0] != stage:
            self._rate_from = (stage, now, done)
        _, since, before = self._rate_from
        return (done - before) / (now - since) if now > since and done > before else 0.0


class RunHost:
    """Starts runs in threads of this process, each under an epoch it owns."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self._mine: dict[str, threading.Thread] = {}
        self._lock = threading.Lock()

    def start(self, kind: str, spec: RunSpec, work: Work, *inputs: str, tenant: Tenant | None = None) -> Run:
        """The run for this question: as it is when done or owned by a living process, else claimed and started."""
        id_ = run_id(kind, spec, *inputs)
        asked = Run(id=id_, kind=kind, spec=spec, state=RunState.RUN_STATE_QUEUED, created_at=time.time())
        asked.tenant.CopyFrom(tenant or Tenant())
        self.store.create(f"runs/{id_}/spec.json", jsonl.dumps(asked).encode())
        return self.go_on(id_, work)

    def go_on(self, id_: str, work: Work) -> Run:
        """A run that is in the store already, under the same rules as `start`."""
        with self._lock:
            epoch = _newest_epoch(self.store, id_)  # read first: who claims after our look has taken epoch + 1
            run = read_run(self.store, id_)
            if run.state == RunState.RUN_STATE_DONE or self._is_owned(run):
                return run
            owned = self._claim(id_, epoch + 1)
            if owned is None:
                return self.get(id_)
            thread = threading.Thread(target=self._carry_out, args=(owned, work), name=id_, daemon=True)
            self._mine[id_] = thread
            thread.start()
            return read_run(self.store, id_)

    def get(self, id_: str) -> Run:
        return _described(self.store, id_)

    def _is_owned(self, run: Run) -> bool:
        mine = self._mine.get(run.id)
        if mine is not None:
            return mine.is_alive()
        return _has_living_owner(self.store, run)

    def _claim(self, id_: str, epoch: int) -> OwnedRun | None:
        """None when another process took this epoch at this moment."""
        if not self.store.create(f"runs/{id_}/epochs/{epoch:06d}.json", _Owner.here().text()):
            return None
        self.store.delete(f"runs/{id_}/cancel")
        run = jsonl.loads(Run, self.store.read(f"runs/{id_}/spec.json"))
        run.epoch, run.state = epoch, RunState.RUN_STATE_RUNNING
        owned = OwnedRun(self.store, run)
        owned.beat()
        log.info("run_claimed", run=id_, epoch=epoch)
        return owned

    def _carry_out(self, owned: OwnedRun, work: Work) -> None:
        stop = threading.Event()
        threading.Thread(target=_heartbeat, args=(owned, stop), name=f"{owned.id}-beat", daemon=True).start()
        started = time.monotonic()
        try:
            state, result, error = _outcome(owned, work)
        finally:
            stop.set()
        observe.count("lrm_run_ended_total", kind=owned.id.rsplit("-", 1)[0], state=RunState.Name(state))
        observe.timing("lrm_run_seconds", time.monotonic() - started, kind=owned.id.rsplit("-", 1)[0])
        try:
            owned.end(state, result, error)
        except LrmError as lost:
            log.warning("run_end_not_written", run=owned.id, error=str(lost))


def _outcome(owned: OwnedRun, work: Work) -> tuple["RunState.ValueType", str, str]:
    """An edge: whatever the work raises becomes the run's state."""
    try:
        return RunState.RUN_STATE_DONE, work(owned), ""
    except Cancelled as error:
        return RunState.RUN_STATE_CANCELLED, "", str(error)
    except LrmError as error:
        log.warning("run_failed", run=owned.id, error=str(error))
        return RunState.RUN_STATE_FAILED, "", str(error)
    except Exception as error:  # a defect of ours must end as a FAILED run, not as a silent thread
        log.error("run_crashed", run=owned.id, exc_info=error)
        return RunState.RUN_STATE_FAILED, "", f"internal error ({type(error).__name__}); see the service's log"


def _heartbeat(owned: OwnedRun, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_S):
        try:
            owned.beat()
        except LrmError as error:
            log.warning("heartbeat_missed", run=owned.id, error=str(error))


class RunsServicer(runs_pb2_grpc.RunsServicer):
    """The Runs service, mounted by every service that has runs."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def GetRun(self, request: GetRunRequest, context: grpc.ServicerContext) -> Run:
        return _described(self._store, request.id)

    def ListRuns(self, request: ListRunsRequest, context: grpc.ServicerContext) -> ListRunsResponse:
        return ListRunsResponse(runs=list_runs(self._store, request.kind))

    def WatchRun(self, request: WatchRunRequest, context: grpc.ServicerContext) -> Iterator[Run]:
        last = None
        while context.is_active():
            run = _described(self._store, request.id)
            if run != last:
                yield run
            if has_ended(run):
                return
            last = run
            time.sleep(_WATCH_S)

    def CancelRun(self, request: CancelRunRequest, context: grpc.ServicerContext) -> Run:
        run = _described(self._store, request.id)
        if not has_ended(run):
            self._store.write(f"runs/{run.id}/cancel", b"")
        return run

    def ListCosts(self, request: ListCostsRequest, context: grpc.ServicerContext) -> ListCostsResponse:
        return ListCostsResponse(costs=costs.list_costs(self._store, request.team, request.since))


def _described(store: ObjectStore, id_: str) -> Run:
    """The run, and in words why it stands still when its owner is gone."""
    run = read_run(store, id_)
    if not has_ended(run) and not _has_living_owner(store, run):
        run.waiting = OWNER_GONE
    return run


def _has_living_owner(store: ObjectStore, run: Run) -> bool:
    """Asks the newest epoch, which may have been claimed after `run` was written."""
    epoch = _newest_epoch(store, run.id)
    if epoch == 0 or (epoch == run.epoch and has_ended(run)):
        return False
    return _Owner.parse(store.read(f"runs/{run.id}/epochs/{epoch:06d}.json")).is_alive(run.updated_at)


def _newest_epoch(store: ObjectStore, id_: str) -> int:
    return max((int(key.rsplit("/", 1)[1][:6]) for key in store.list(f"runs/{id_}/epochs/")), default=0)


def _process_start(pid: int) -> str:
    """Start time of a process in clock ticks since boot; empty when there is no such process. Survives pid reuse."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rsplit(")", 1)[1].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return ""
