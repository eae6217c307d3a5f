"""What a build has cost: the tokens that models wrote for it, at their prices. Engines of ours bill GPU-seconds."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from lrm_safety import costs, observe
from lrm_safety.errors import LrmError
from lrm_safety.nouns import Cost, Run
from lrm_safety.runs import OwnedRun
from services.data.budget import Purse

log = observe.logger(__name__)


@contextmanager
def noting(run: OwnedRun, purse: Purse) -> Iterator[None]:
    """Notes what was spent inside, however it ends; nothing when nothing was."""
    try:
        yield
    finally:
        try:
            run.check_owned()
            cost = spent(run.described(), purse, costs.find(run.store, run.id) or Cost())
            if cost.tokens:
                costs.record(run.store, cost)
        except LrmError as error:  # what it cost must not decide what comes of it
            log.warning("cost_not_noted", run=run.id, error=str(error))


def spent(run: Run, purse: Purse, noted: Cost) -> Cost:
    """By all owners of the run. Those before have `noted` what they asked for unfinished rows, too, but nothing when
    they were killed; the purse knows what was finished.
    """
    cost = Cost(id=run.id, kind="dataset", tenant=run.tenant, started_at=run.created_at, ended_at=time.time())
    cost.tokens = purse.spent.tokens + max(noted.tokens - purse.before.tokens, 0)
    cost.money = purse.spent.cost + max(noted.money - purse.before.cost, 0)
    return cost
