"""Rows for which models were asked, finished: in the parts of the run, so that the next owner does not ask again."""

import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from google.protobuf.message import Message

from lrm_safety.nouns import Written
from services.data.spool import Spool

M = TypeVar("M", bound=Message)
COMMIT_ROWS = 64
COMMIT_S = 1.0


class Follower(Protocol):
    """What a build tells its run."""

    id: str

    def progress(
        self, stage: str, done: float, total: float, unit: str, metrics: Mapping[str, float] | None = None
    ) -> None: ...

    def check_cancelled(self) -> None: ...

    def commit(self, rows: Sequence[Message]) -> None: ...

    def parts(self, kind: type[M]) -> Iterator[M]: ...


class Ledger:
    """`add` may be called from any thread; what came of earlier owners lies on disk, its keys in memory."""

    def __init__(self, run: Follower, path: Path) -> None:
        self._run, self._before = run, Spool(path)
        self._places: dict[tuple[str, str], int] = {}
        for written in run.parts(Written):
            if _key(written) not in self._places:
                self._places[_key(written)] = self._before.add(written.SerializeToString())
        self._finished: list[Written] = []
        self._committed_at = time.monotonic()
        self._lock = threading.Lock()

    def every(self) -> Iterator[Written]:
        """What earlier owners finished."""
        return (Written.FromString(self._before.read(place)) for place in range(len(self._before)))

    def find(self, asked: Written) -> Written | None:
        """What came of a row of that step and key, if it was finished."""
        with self._lock:
            place = self._places.get(_key(asked))
            return None if place is None else Written.FromString(self._before.read(place))

    def add(self, written: Written) -> None:
        """A copy of it: the build goes on to name its example and to filter it."""
        finished = Written()
        finished.CopyFrom(written)
        with self._lock:
            self._finished.append(finished)

    def commit(self, everything: bool = False) -> None:
        """Finished rows as one part, in groups: by number, or by age. Raises what OwnedRun.commit raises."""
        with self._lock:
            old = time.monotonic() - self._committed_at >= COMMIT_S
            if not self._finished or not (everything or old or len(self._finished) >= COMMIT_ROWS):
                return
            rows, self._finished = self._finished, []
            self._committed_at = time.monotonic()
        self._run.commit(rows)

    def close(self) -> None:
        self._before.close()


def _key(written: Written) -> tuple[str, str]:
    return sys.intern(written.step), written.key
