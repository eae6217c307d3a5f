"""Whose turn it is: one gate at a time in this process, the most urgent first, then the oldest."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from lrm_safety.runs import OwnedRun
from lrm_safety.settings import PRIORITIES

LOOK_S = 1.0  # whether it was cancelled meanwhile


class Turns:
    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: set[tuple[int, float, str]] = set()
        self._at_work = ""

    @contextmanager
    def turn(self, run: OwnedRun) -> Iterator[None]:
        """Waits for it, saying so in the run. Raises what `OwnedRun.check_cancelled` raises."""
        asked = run.described()
        me = (PRIORITIES.index(asked.tenant.priority or "normal"), asked.created_at, run.id)
        with self._changed:
            self._waiting.add(me)
        try:
            self._wait(run, me)
            yield
        finally:
            with self._changed:
                self._waiting.discard(me)
                self._at_work = "" if self._at_work == run.id else self._at_work
                self._changed.notify_all()

    def _wait(self, run: OwnedRun, me: tuple[int, float, str]) -> None:
        with self._changed:
            while self._at_work or min(self._waiting) != me:
                before = sum(other < me for other in self._waiting)
                run.check_cancelled()
                run.waiting(f"its turn: {before + bool(self._at_work)} gates go first")
                self._changed.wait(LOOK_S)
            self._waiting.discard(me)
            self._at_work = run.id
