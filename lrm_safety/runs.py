"""Runs: long work with an identity, one owner at a time, and a memory in the store.

    runs/<id>/spec.json             what was asked; the id is the hash of it and of its inputs
    runs/<id>/epochs/<epoch>.json   who owned it when; put-if-absent, so one owner an epoch
    runs/<id>/parts/<epoch>-<n>     immutable rows; a later epoch reads them and goes on
    runs/<id>/state.json            progress of the present owner, rewritten; never trusted as done
    runs/<id>/result.json           written last: its existence means done
    runs/<id>/cancel                somebody asked for the end
    open/<id>                       it has not ended: what adoption.py looks through

Asking again is resuming: a run whose owner is gone is claimed under the next epoch. An owner that lost its run
learns it at its next commit or heartbeat and stops; its rows stay, and readers drop duplicate keys. An owner that has
to go hands its runs over, so that the next one need not wait.
"""

import hashlib
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from google.protobuf.message import Message

from lrm_safety import epochs, jsonl, observe
from lrm_safety.errors import Cancelled, Conflict, LrmError, NotFound, Unavailable
from lrm_safety.nouns import Progress, Run, RunSpec, RunState, Tenant, has_ended
from lrm_safety.store import ObjectStore

log = observe.logger(__name__)
M = TypeVar("M", bound=Message)
HEARTBEAT_S = 5.0
HAND_OVER_S = 8.0  # for work to come to a place where it can be left
OWNER_GONE = "its owner is gone; ask for it again and it goes on where it stopped"
TAKEN_OVER = "its owner is gone; within a minute another takes over, and goes on where it stopped"
_RUNNING, _QUEUED = RunState.RUN_STATE_RUNNING, RunState.RUN_STATE_QUEUED


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


def read_parts(store: ObjectStore, id_: str, kind: type[M]) -> Iterator[M]:
    """The rows of all parts of all epochs, as committed. Duplicate keys are the reader's to drop (first wins)."""
    for key in store.list(f"runs/{id_}/parts/"):
        yield from jsonl.unpack(kind, store.read(key))


class OwnedRun:
    """A claimed run, as the work sees it. All methods may be called from any thread."""

    def __init__(self, store: ObjectStore, run: Run) -> None:
        self.store, self.id, self.epoch = store, run.id, run.epoch
        self.spec = run.spec
        self._run, self._parts, self._wrote = run, 0, 0.0
        self._rate_from: tuple[str, float, float] | None = None
        self._moved_at = time.monotonic()  # when progress last changed, or waiting began or ended
        self._stop: LrmError | None = None
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
            before = self._run.progress
            if self._run.waiting or (before.stage, before.done) != (stage, done):
                self._moved_at = time.monotonic()
            self._run.progress.CopyFrom(now)
            self._run.waiting = ""
            if time.time() - self._wrote >= 1:
                self.beat()

    def waiting(self, why: str) -> None:
        with self._lock:
            if not self._run.waiting:
                self._moved_at = time.monotonic()
            changed, self._run.waiting = self._run.waiting != why, why
            if changed:
                self.beat()

    def standing(self) -> tuple[bool, float]:
        """Whether it waits, and for how many seconds it has waited or not moved."""
        with self._lock:
            return bool(self._run.waiting), time.monotonic() - self._moved_at

    def commit(self, rows: Sequence[Message]) -> None:
        """Rows as one immutable part. Raises Conflict when a newer epoch owns the run."""
        if not rows:
            return
        with self._lock:
            self.check_owned()
            key = f"runs/{self.id}/parts/{self.epoch:06d}-{self._parts:06d}.jsonl.zst"
            self._parts += 1
            self.store.write(key, jsonl.pack(rows))

    def parts(self, kind: type[M]) -> Iterator[M]:
        return read_parts(self.store, self.id, kind)

    def check_cancelled(self) -> None:
        """Raises Cancelled once somebody has asked for the end, Unavailable once the run is to be handed over, and
        Conflict once it has another owner.
        """
        if self._stop is not None:
            raise self._stop
        if self.store.stat(f"runs/{self.id}/cancel"):
            raise Cancelled(f"{self.id} was cancelled; asking for it again goes on where it stopped")

    def beat(self) -> None:
        """Writes the state: progress for people, a heartbeat for other replicas. Not once it has another owner."""
        with self._lock:
            if isinstance(self._stop, Conflict):
                return
            self._wrote = self._run.updated_at = time.time()
            self.store.write(f"runs/{self.id}/state.json", jsonl.dumps(self._run).encode())

    def end(self, state: "RunState.ValueType", result: str = "", error: str = "") -> None:
        """The last word of this owner. Only DONE writes the result object."""
        with self._lock:
            self.check_owned()
            self._run.state, self._run.result, self._run.error, self._run.waiting = state, result, error, ""
            self.beat()
            if state == RunState.RUN_STATE_DONE:
                self.store.create(f"runs/{self.id}/result.json", jsonl.dumps(self._run).encode())
            close(self.store, self.id, self.epoch)

    def leave(self) -> None:
        """The work is to stop where it can go on: its process ends, and another will take over."""
        self._stop = self._stop or Unavailable(f"{self.id} is handed over: its service stops, and another goes on")

    @property
    def is_leaving(self) -> bool:
        return isinstance(self._stop, Unavailable)

    def check_owned(self) -> None:
        """Raises Conflict, now and from `check_cancelled`, when a newer epoch owns the run."""
        newest = epochs.newest(self.store, self.id)
        if newest != self.epoch:
            self._stop = Conflict(f"{self.id} is now owned by epoch {newest}; epoch {self.epoch} stops here")
            raise self._stop

    def _rate(self, stage: str, done: float) -> float:
        now = time.monotonic()
        if self._rate_from is None or self._rate_from[0] != stage:
            self._rate_from = (stage, now, done)
        _, since, before = self._rate_from
        return (done - before) / (now - since) if now > since and done > before else 0.0


class RunHost:
    """Starts runs in threads of this process, each under an epoch it owns."""

    def __init__(self, store: ObjectStore, is_adopted: bool = False) -> None:
        """`is_adopted`: runs whose owner is gone are taken over without being asked for again (adoption.py)."""
        self.store, self._gone = store, TAKEN_OVER if is_adopted else OWNER_GONE
        self._mine: dict[str, _Mine] = {}
        self.is_leaving = False
        self._lock = threading.Lock()
        _hosts.add(self)

    def start(self, kind: str, spec: RunSpec, work: Work, *inputs: str, tenant: Tenant | None = None) -> Run:
        """The run for this question: as it is when done or owned by a living process, else claimed and started."""
        id_ = run_id(kind, spec, *inputs)
        asked = Run(id=id_, kind=kind, spec=spec, state=RunState.RUN_STATE_QUEUED, created_at=time.time())
        asked.tenant.CopyFrom(tenant or Tenant())
        self.store.create(f"runs/{id_}/spec.json", jsonl.dumps(asked).encode())
        return self.go_on(id_, work)

    def go_on(self, id_: str, work: Work, is_adoption: bool = False) -> Run:
        """A run that is in the store already, under the same rules as `start`.

        An adoption is nobody's new question: what failed stays failed, and what was cancelled ends as cancelled.
        Raises Unavailable when this process is about to end.
        """
        with self._lock:
            if self.is_leaving:
                raise Unavailable("this service is stopping; ask again in a moment")
            epoch = epochs.newest(self.store, id_)  # read first: who claims after our look has taken epoch + 1
            run = read_run(self.store, id_)
            is_over = has_ended(run) if is_adoption else run.state == RunState.RUN_STATE_DONE
            if is_over or self.is_owned(run):
                return run
            owned = self._claim(id_, epoch + 1, is_adoption)
            if owned is None:
                return self.get(id_)
            thread = threading.Thread(target=self._carry_out, args=(owned, work), name=id_, daemon=True)
            self._mine[id_] = _Mine(owned, thread)
            thread.start()
            return read_run(self.store, id_)

    def get(self, id_: str) -> Run:
        """The run, and in words why it stands still when its owner is gone. Raises NotFound."""
        run = read_run(self.store, id_)
        if not has_ended(run) and not epochs.has_living_owner(self.store, run):
            run.waiting = self._gone
        return run

    def list_runs(self, kind: str = "") -> list[Run]:
        """Newest first."""
        ids = sorted({key.split("/")[1] for key in self.store.list("runs/")})
        wanted = [id_ for id_ in ids if id_.startswith(f"{kind}-" if kind else "")]
        return sorted((self.get(id_) for id_ in wanted), key=lambda run: -run.created_at)

    def is_owned(self, run: Run) -> bool:
        """By a living process; for runs of this one, by a thread that lives."""
        mine = self._mine.get(run.id)
        if mine is not None and mine.is_at_work():
            return True
        if mine is not None and mine.owned.epoch == epochs.newest(self.store, run.id):
            return False
        return epochs.has_living_owner(self.store, run)

    def release(self, timeout_s: float = HAND_OVER_S) -> None:
        """This process ends: its runs stop where they can go on, and are free for others at once."""
        with self._lock:
            self.is_leaving = True
            leaving = [mine for mine in self._mine.values() if mine.is_at_work()]
        for mine in leaving:
            mine.owned.leave()
        until = time.monotonic() + timeout_s
        for mine in leaving:
            mine.thread.join(max(0.0, until - time.monotonic()))
            if mine.thread.is_alive():
                log.warning("run_left_in_the_middle", run=mine.owned.id)
                epochs.hand_over(self.store, mine.owned.id, mine.owned.epoch)

    def _claim(self, id_: str, epoch: int, is_adoption: bool) -> OwnedRun | None:
        """None when another process took this epoch at this moment."""
        if not epochs.claim(self.store, id_, epoch):
            return None
        self.store.create(_open_key(id_), b"")
        if not is_adoption:
            self.store.delete(f"runs/{id_}/cancel")
        run = jsonl.loads(Run, self.store.read(f"runs/{id_}/spec.json"))
        run.epoch, run.state = epoch, RunState.RUN_STATE_RUNNING
        owned = OwnedRun(self.store, run)
        owned.beat()
        log.info("run_claimed", run=id_, epoch=epoch, is_adoption=is_adoption)
        return owned

    def _carry_out(self, owned: OwnedRun, work: Work) -> None:
        stop = threading.Event()
        threading.Thread(target=self._heartbeat, args=(owned, stop), name=f"{owned.id}-beat", daemon=True).start()
        started = time.monotonic()
        try:
            outcome = _outcome(owned, work)
        finally:
            stop.set()
        kind = _kind(owned.id)
        try:
            if outcome is None:
                owned.beat()
                epochs.hand_over(self.store, owned.id, owned.epoch)
                log.info("run_handed_over", run=owned.id, epoch=owned.epoch)
            else:
                observe.count("lrm_run_ended_total", kind=kind, state=RunState.Name(outcome[0]))
                observe.timing("lrm_run_seconds", time.monotonic() - started, kind=kind)
                owned.end(*outcome)
        except LrmError as lost:
            log.warning("run_end_not_written", run=owned.id, error=str(lost))
        self._measure(kind, but=owned)

    def _heartbeat(self, owned: OwnedRun, stop: threading.Event) -> None:
        while True:
            self._measure(_kind(owned.id))
            if stop.wait(HEARTBEAT_S):
                return
            try:
                owned.check_owned()
                owned.beat()
            except LrmError as error:
                log.warning("heartbeat_missed", run=owned.id, error=str(error))

    def _measure(self, kind: str, but: OwnedRun | None = None) -> None:
        """Gauges of one kind over the runs that live here; `but` has just ended."""
        mine = [each for id_, each in list(self._mine.items()) if _kind(id_) == kind]
        standing = [each.owned.standing() for each in mine if each.owned is not but and each.is_at_work()]
        waits = [seconds for is_waiting, seconds in standing if is_waiting]
        moves = [seconds for is_waiting, seconds in standing if not is_waiting]
        for state, seconds in ((_RUNNING, moves), (_QUEUED, waits)):
            observe.gauge("lrm_run_active", len(seconds), kind=kind, state=RunState.Name(state))
        observe.gauge("lrm_run_progress_age_seconds", max(moves, default=0.0), kind=kind)
        observe.gauge("lrm_run_waiting_seconds", max(waits, default=0.0), kind=kind)


@dataclass(frozen=True)
class _Mine:
    owned: OwnedRun
    thread: threading.Thread

    def is_at_work(self) -> bool:
        """Not while the thread only tidies up behind a run that has ended, and may be asked for again."""
        return self.thread.is_alive() and not has_ended(self.owned.described())


_hosts: weakref.WeakSet[RunHost] = weakref.WeakSet()


def release_all() -> None:
    """For a process that was told to end: hands over the runs of all its hosts."""
    hosts = list(_hosts)
    threads = [threading.Thread(target=host.release) for host in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def open_runs(store: ObjectStore, kind: str) -> Iterator[str]:
    """Ids of runs that have not ended, as far as is known: one list, however many have."""
    yield from (key.removeprefix(_open_key("")) for key in store.list(_open_key(f"{kind}-")))


def close(store: ObjectStore, id_: str, epoch: int) -> None:
    """Takes an ended run off that list, unless it was claimed again meanwhile."""
    store.delete(_open_key(id_))
    if epochs.newest(store, id_) != epoch:
        store.create(_open_key(id_), b"")


def _outcome(owned: OwnedRun, work: Work) -> tuple["RunState.ValueType", str, str] | None:
    """An edge: whatever the work raises becomes the run's state; None when it is left to its next owner."""
    try:
        return RunState.RUN_STATE_DONE, work(owned), ""
    except Cancelled as error:
        return RunState.RUN_STATE_CANCELLED, "", str(error)
    except LrmError as error:
        if owned.is_leaving and isinstance(error, Unavailable):
            return None
        log.warning("run_failed", run=owned.id, error=str(error))
        return RunState.RUN_STATE_FAILED, "", str(error)
    except Exception as error:  # a defect of ours must end as a FAILED run, not as a silent thread
        log.error("run_crashed", run=owned.id, exc_info=error)
        return RunState.RUN_STATE_FAILED, "", f"internal error ({type(error).__name__}); see the service's log"


def _kind(id_: str) -> str:
    return id_.rsplit("-", 1)[0]


def _open_key(id_: str) -> str:
    return f"open/{id_}"
