"""Who uses which engine, known to every replica of this service: for idle engines, and for letting work in flight end.

    uses/<job>/<replica>     {"at": when it was last used, "busy": whether a Generate is in flight}

Memory knows our own Generates exactly; the object is written when a quiet engine is used again, at most every
`every_s` while it is, and when it has been quiet for a moment. A busy word that is not renewed is a dead replica's.
On one machine we are the only replica, and memory is enough.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from lrm_safety import observe
from lrm_safety.errors import LrmError
from lrm_safety.store import ObjectStore

log = observe.logger(__name__)
_LOOK_S = 0.2


class Uses:
    def __init__(self, store: ObjectStore, every_s: float, is_shared: bool) -> None:
        self._store, self.every_s, self._is_shared = store, every_s, is_shared
        self._replica = uuid4().hex[:12]
        self._lock = threading.Lock()
        self._in_flight: Counter[str] = Counter()
        self._last: dict[str, float] = {}
        self._said: dict[str, tuple[float, bool]] = {}  # job -> when and what was written

    @contextmanager
    def using(self, job: str) -> Iterator[None]:
        """For as long as a Generate is in flight. When it begins, other replicas can know of it."""
        with self._lock:
            self._in_flight[job] += 1
        try:
            self._say_when_due(job)
            yield
        finally:
            with self._lock:
                self._in_flight[job] -= 1
                self._last[job] = time.time()

    def renew(self) -> None:
        """To be called now and then: tells of engines that are still busy, and of those that fell quiet."""
        for job in list(self._said):
            self._say_when_due(job)

    def last(self, job: str) -> float:
        """When any replica last used the engine: now, while one does; 0 for never."""
        return max((at for at, _ in self._heard(job)), default=0.0)

    def wait_until_quiet(self, job: str, within_s: float) -> bool:
        """True when nothing is in flight at the engine any more, False when time is up."""
        deadline = time.monotonic() + within_s
        while any(busy for _, busy in self._heard(job)):
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOOK_S)
        return True

    def forget(self, job: str) -> None:
        """The engine has ended."""
        with self._lock:
            self._said.pop(job, None)
            self._last.pop(job, None)
        for key in list(self._store.list(f"uses/{job}/")) if self._is_shared else ():
            self._store.delete(key)

    def _say_when_due(self, job: str) -> None:
        if not self._is_shared:
            return
        now = time.time()
        with self._lock:
            busy = self._in_flight[job] > 0
            at, said_busy = self._said.get(job, (0.0, False))
            last = now if busy else self._last.get(job, now)
            is_news = said_busy if not busy else not said_busy or now - at >= self.every_s
            if not is_news or (not busy and now - last < self.every_s / 6):
                return
            self._said[job] = (now, busy)
        try:
            self._store.write(f"uses/{job}/{self._replica}", json.dumps({"at": last, "busy": busy}).encode())
        except LrmError as error:  # no reason to refuse work
            log.warning("use_not_written", job=job, error=str(error))

    def _heard(self, job: str) -> Iterator[tuple[float, bool]]:
        now = time.time()
        with self._lock:
            busy, last = self._in_flight[job] > 0, self._last.get(job, 0.0)
        yield (now if busy else last), busy
        for key in self._store.list(f"uses/{job}/") if self._is_shared else ():
            if key.endswith(self._replica):
                continue
            word = json.loads(self._store.read(key))
            fresh = bool(word["busy"]) and now - word["at"] < 3 * self.every_s
            yield float(word["at"]), fresh
