"""Runs that nobody owns are taken over: a thread beside each service that hosts runs looks for them all the time.

In a cluster services come and go; whoever asked for a run may be asleep. What is taken over goes on from its spec and
its rows alone. Two that adopt at once are told apart by the run's epoch. Dead owners are known by their old heartbeat,
those that ended in an orderly way by their word (runs.py).
"""

import random
import threading
from collections.abc import Callable, Mapping

from lrm_safety import observe, runs
from lrm_safety.errors import Conflict, LrmError, NotFound, Unavailable
from lrm_safety.nouns import Run, has_ended
from lrm_safety.runs import OwnedRun, RunHost, Work
from lrm_safety.settings import Settings

EVERY_S = 10.0
CHANGED = "what it was asked with (files, code or models) has changed since; asked again, it is another run"
Resume = Callable[[Run], Work]  # raises Unavailable when it cannot be said yet, other errors end the run
log = observe.logger(__name__)


def is_on(settings: Settings) -> bool:
    """On one machine a run is asked for again by hand, or by `lrm run`."""
    return settings.jobs == "cluster"


class Adoption:
    """Looks through the open runs of some kinds, for a host that can go on with them."""

    def __init__(self, host: RunHost, resumes: Mapping[str, Resume]) -> None:
        self._host, self._resumes = host, resumes

    def start(self) -> None:
        """Looks until the host leaves."""
        threading.Thread(target=self._look_for_ever, name="adoption", daemon=True).start()

    def look(self) -> None:
        """Once. Costs one list a kind, and a few reads for every run that has not ended."""
        for kind in self._resumes:
            put_off = 0
            for id_ in runs.open_runs(self._host.store, kind):
                try:
                    self._look_at(kind, id_)
                except LrmError as error:
                    put_off += 1
                    log.info("adoption_put_off", run=id_, error=str(error))
            observe.gauge("lrm_run_unowned", put_off, kind=kind)

    def _look_for_ever(self) -> None:
        pause = threading.Event()
        while not self._host.is_leaving:
            try:
                self.look()
            except LrmError as error:
                log.warning("adoption_failed", error=str(error))
            except Exception as crash:  # a defect must not end adoption for good
                log.error("adoption_crashed", exc_info=crash)
            pause.wait(EVERY_S * random.uniform(0.8, 1.2))

    def _look_at(self, kind: str, id_: str) -> None:
        try:
            run = runs.read_run(self._host.store, id_)
        except NotFound:  # somebody removed it
            runs.close(self._host.store, id_, epoch=0)
            return
        if has_ended(run):
            runs.close(self._host.store, id_, run.epoch)
        elif not self._host.is_owned(run):
            self._adopt(kind, run)

    def _adopt(self, kind: str, run: Run) -> None:
        try:
            work = self._resumes[kind](run)
        except Unavailable:
            raise
        except LrmError as error:
            work = _ending(error)
        adopted = self._host.go_on(run.id, work, is_adoption=True)
        if adopted.epoch > run.epoch:
            observe.count("lrm_run_adopted_total", kind=kind)


def check_same(run: Run, id_: str) -> None:
    """Raises Conflict when the run would be another one if it were asked for now."""
    if run.id != id_:
        raise Conflict(f"{run.id}: {CHANGED}")


def _ending(error: LrmError) -> Work:
    def work(run: OwnedRun) -> str:
        run.check_cancelled()
        raise error

    return work
