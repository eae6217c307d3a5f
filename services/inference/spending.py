"""What engines cost: GPU-seconds of every job from its start to its end, in the store for whoever deployed it."""

import time

from lrm_safety import costs
from lrm_safety.jobs import JobStatus
from lrm_safety.nouns import Cost, Endpoint
from lrm_safety.store import ObjectStore
from services.inference.engine import Launch, Site

EVERY_S = 60.0


class Spending:
    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._noted: dict[str, float] = {}

    def is_due(self, status: JobStatus) -> bool:
        """Whether there is news: it began, it ended, or a minute has passed."""
        before = self._noted.get(status.id)
        if not status.started_at or before == float("inf"):
            return False
        return before is None or status.has_ended or time.time() - before >= EVERY_S

    def note(self, endpoint: Endpoint, status: JobStatus, site: Site, launch: Launch) -> None:
        """A job that has ended is noted once, by the first who sees it."""
        now = time.time()
        self._noted[status.id] = float("inf") if status.has_ended else now
        before = costs.find(self._store, status.id)
        if before is not None and before.ended_at:
            return
        started_at = min(before.started_at if before else now, status.started_at)  # its first pod may be gone
        gpu_seconds = launch.gpus * max(1, site.spec.replicas) * (now - started_at)
        cost = Cost(
            id=status.id,
            kind="engine",
            tenant=endpoint.tenant,
            gpu_seconds=gpu_seconds,
            money=gpu_seconds / 3600 * site.machine.gpu_hour_price,
            node_pool=site.spec.node_pool,
            started_at=started_at,
            ended_at=now if status.has_ended else 0.0,
        )
        costs.record(self._store, cost)
