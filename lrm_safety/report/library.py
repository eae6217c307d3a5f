"""The indexes of the runs that somebody looks at: opened once, grown in the background, put together for a page."""

import threading
from pathlib import Path

from lrm_safety import observe
from lrm_safety.errors import LrmError
from lrm_safety.report.finding import SIDES, Finder
from lrm_safety.report.index import SampleIndex
from lrm_safety.report.shelf import Shelf

log = observe.logger(__name__)


class Library:
    """`folder` keeps the index files. May be used from many threads."""

    def __init__(self, shelf: Shelf, folder: Path) -> None:
        self._shelf, self._folder = shelf, folder
        self._indexes: dict[str, SampleIndex] = {}
        self._growing: dict[str, threading.Thread] = {}
        self._lock = threading.Lock()

    def finder(self, runs: list[str]) -> Finder:
        """Over these bench runs, the baseline first. What is not indexed yet is on its way. Raises NotFound."""
        judges: dict[str, str] = {}
        for run in runs:
            spec = self._shelf.bench_spec(run)
            judges |= {each.benchmark: each.judges[0].judge for each in spec.benchmarks if each.judges}
        indexes = {side: self._opened(run, judges) for side, run in zip(SIDES, runs, strict=False)}
        return Finder(indexes, judges)

    def unread(self, finder: Finder) -> int:
        """How many parts of its runs are not indexed yet; they are being read now."""
        missing = {index.run: index.missing() for index in finder.indexes.values()}
        for index in finder.indexes.values():
            if missing[index.run]:
                self._grow(index)
        if not any(missing.values()):
            finder.settle()
        return sum(missing.values())

    def wait(self) -> None:
        """Until everything asked for is indexed."""
        for thread in list(self._growing.values()):
            thread.join()

    def _opened(self, run: str, judges: dict[str, str]) -> SampleIndex:
        with self._lock:
            if run not in self._indexes:
                self._indexes[run] = SampleIndex(self._shelf.store, run, self._folder, judges)
            return self._indexes[run]

    def _grow(self, index: SampleIndex) -> None:
        with self._lock:
            thread = self._growing.get(index.run)
            if thread is None or not thread.is_alive():
                self._growing[index.run] = threading.Thread(target=_grown, args=(index,), daemon=True)
                self._growing[index.run].start()


def _grown(index: SampleIndex) -> None:
    """An edge: the next look at the run tries again."""
    try:
        index.grow()
    except LrmError as error:
        log.warning("index_not_grown", run=index.run, error=str(error))
