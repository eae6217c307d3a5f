"""Work in a cluster gets over outages: services, nodes and stores go and come back, and nobody needs to ask anew."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from lrm_safety import observe
from lrm_safety.errors import Unavailable
from lrm_safety.runs import OwnedRun

T = TypeVar("T")
PATIENCE_S = 900.0
PAUSE_S, LONGEST_PAUSE_S = 2.0, 60.0  # between attempts; doubles
POLL_S = 0.5
log = observe.logger(__name__)


def get_over(run: OwnedRun, work: Callable[[], T], patience_s: float, kept: Callable[[], float] = lambda: 0.0) -> T:
    """The work's result. It is done again while it raises Unavailable, and so must go on where it stopped.

    Raises Unavailable after `patience_s` in which it has not `kept` more than before (rows, say), or when the run is
    handed over; and what else the work raises.
    """
    most, pause_s, until = 0.0, PAUSE_S, time.monotonic() + patience_s
    while True:
        try:
            return work()
        except Unavailable as error:
            have = _known(kept)
            if have > most:
                most, pause_s, until = have, PAUSE_S, time.monotonic() + patience_s
            if run.is_leaving or time.monotonic() >= until:
                raise
            log.warning("outage", run=run.id, error=str(error), pause_s=pause_s)
            _say(run, f"an outage, it goes on by itself: {error}")
            _pause(run, pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)


def _known(kept: Callable[[], float]) -> float:
    try:
        return kept()
    except Unavailable:  # the store itself is away
        return 0.0


def _say(run: OwnedRun, why: str) -> None:
    with suppress(Unavailable):
        run.waiting(why)


def _pause(run: OwnedRun, seconds: float) -> None:
    """Ends early when the run is asked to end."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            run.check_cancelled()
        except Unavailable:
            if run.is_leaving:
                raise
        time.sleep(POLL_S)
