"""What a job of the trainer costs: GPU-seconds from its start on, at its pool's price."""

import time

from lrm_safety import costs
from lrm_safety.jobs import JobSpec, JobStatus
from lrm_safety.nouns import Cost, Tenant
from lrm_safety.store import ObjectStore

EVERY_S = 30.0


class Meter:
    def __init__(self, store: ObjectStore, job: JobSpec, tenant: Tenant, gpu_hour_price: float) -> None:
        self._store, self._job, self._tenant, self._price = store, job, tenant, gpu_hour_price
        self._noted_at = 0.0

    def note(self, status: JobStatus) -> None:
        """Writes at most every EVERY_S while the job runs, and once when it has ended."""
        now = time.time()
        if not status.started_at or (not status.has_ended and now - self._noted_at < EVERY_S):
            return
        before = costs.find(self._store, status.id) if status.has_ended else None
        if before is not None and before.ended_at:
            return
        self._noted_at = now
        gpu_seconds = self._job.gpus * self._job.nodes * (now - status.started_at)
        cost = Cost(
            id=status.id,
            kind=self._job.kind,
            tenant=self._tenant,
            gpu_seconds=gpu_seconds,
            money=gpu_seconds / 3600 * self._price,
            node_pool=self._job.node_pool,
            started_at=status.started_at,
            ended_at=now if status.has_ended else 0.0,
        )
        costs.record(self._store, cost)
