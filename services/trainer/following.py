"""A run of the trainer is a Job: submits or adopts it, and mirrors it into the run until it ends."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from lrm_safety import observe, outages
from lrm_safety.errors import Cancelled, Conflict, InvalidInput, NotFound, Unavailable
from lrm_safety.jobs import JobRunner, JobSpec, JobState, JobStatus
from lrm_safety.nouns import Checkpoint, Run, reference
from lrm_safety.runs import OwnedRun
from services.trainer.attempt import EXIT_INVALID_INPUT
from services.trainer.jobs import job_id
from services.trainer.ledger import Ledger
from services.trainer.meter import Meter
from services.trainer.resume import ResumePoints
from services.trainer.stake import Stake

log = observe.logger(__name__)
POLL_S = 0.5
MAX_LOST = 2  # killed jobs that are replaced, each going on from the last resume point


@dataclass(frozen=True)
class JobRun:
    """The work of a run, as RunHost wants it."""

    runner: JobRunner
    make: Callable[[Run, int], JobSpec]  # run, attempt -> job
    patience_s: float = 0.0  # with a store, or a runner, that does not answer

    def __call__(self, run: OwnedRun) -> str:
        """The Checkpoint's reference. Raises what the job raised; Unavailable when it was lost too often."""
        ledger = Ledger(run.store, run.id)
        attempt = outages.get_over(run, partial(self._first_attempt, ledger), self.patience_s)
        lost, points = 0, ResumePoints(run.store, run.id)
        while lost <= MAX_LOST:
            point = points.newest()
            result = outages.get_over(run, partial(self._outcome, run, ledger, attempt), self.patience_s)
            if result is not None:
                _show(run, ledger)
                return reference(result.name, result.digest)
            lost = lost + 1 if points.newest() == point else 0  # one that got further is no hopeless case
            log.warning("job_lost", run=run.id, attempt=attempt, lost=lost)
            observe.count("lrm_job_lost_total", kind=run.id.rsplit("-", 1)[0])
            attempt += 1
        last = self._status(run.id, attempt - 1)
        reason = last.reason if last and last.reason else "is memory short?"
        raise Unavailable(
            f"the job of {run.id} was killed {MAX_LOST + 1} times ({reason}); its log is "
            f"jobs/{job_id(run.id, attempt - 1)}/log in the store; asking again goes on from the last resume point"
        )

    def _outcome(self, run: OwnedRun, ledger: Ledger, attempt: int) -> Checkpoint | None:
        """What came out, now or before; None when the job was lost."""
        return ledger.read_result() or self._follow(run, ledger, attempt)

    def _follow(self, run: OwnedRun, ledger: Ledger, attempt: int) -> Checkpoint | None:
        """Until the job has ended: what came out, or None when it was lost. Raises the error it reported."""
        job = self.make(run.described(), attempt)
        status = self._submit(job)
        meter = Meter(run.store, job, run.described().tenant, self._gpu_hour_price(job))
        stake = Stake(self.runner, ResumePoints(run.store, run.id), job)
        while not status.has_ended:
            self._mirror(run, ledger, status)
            meter.note(status)
            stake.note(status, run.described().progress)
            try:
                run.check_cancelled()
            except Cancelled:
                self.runner.cancel(status.id)
                raise
            time.sleep(POLL_S)
            status = self.runner.status(status.id)
        meter.note(status)
        error = ledger.read_error(attempt)
        if error is None and status.exit_code == EXIT_INVALID_INPUT:
            error = InvalidInput("the job refused its input")
        if isinstance(error, Unavailable) and self.patience_s:
            return None  # the store was away for too long: a new attempt goes on from the last resume point
        if status.state is not JobState.DONE and error is not None:
            raise type(error)(f"{error} (log: jobs/{status.id}/log in the store)")
        return ledger.read_result()

    def _submit(self, job: JobSpec) -> JobStatus:
        try:
            return self.runner.submit(job)
        except Conflict:  # made by a release whose sizes or commands differ from ours: it goes on as it is
            if (status := self._status_of(job.id)) is None:
                raise
            return status

    def _gpu_hour_price(self, job: JobSpec) -> float:
        return self.runner.machine(job.node_pool).gpu_hour_price if job.gpus else 0.0

    def _mirror(self, run: OwnedRun, ledger: Ledger, status: JobStatus) -> None:
        if status.state is JobState.QUEUED:
            run.waiting(status.waiting or "its job waits for its turn")
            return
        _show(run, ledger)

    def _first_attempt(self, ledger: Ledger) -> int:
        """The attempt that is going on, or else one that was never made."""
        attempt = 1
        while (status := self._status(ledger.run, attempt)) is not None or ledger.read_error(attempt) is not None:
            if status is not None and not status.has_ended:
                return attempt
            attempt += 1
        return attempt

    def _status(self, run: str, attempt: int) -> JobStatus | None:
        return self._status_of(job_id(run, attempt))

    def _status_of(self, job: str) -> JobStatus | None:
        try:
            return self.runner.status(job)
        except NotFound:
            return None


def _show(run: OwnedRun, ledger: Ledger) -> None:
    """The job's own progress as the run's."""
    seen = ledger.read_progress()
    if seen is None:
        run.progress("starting", 0, 1, "jobs")
    else:
        run.progress(seen.stage, seen.done, seen.total, seen.unit, dict(seen.metrics))
