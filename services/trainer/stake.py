"""What stopping a training now would cost: the GPU-seconds since its last resume point, told to its runner.

Whoever empties nodes can then take those where little is lost, or wait until there is a new resume point.
"""

import time
from math import inf

from lrm_safety import observe
from lrm_safety.errors import LrmError
from lrm_safety.jobs import JobRunner, JobSpec, JobState, JobStatus
from lrm_safety.nouns import Progress
from services.trainer.resume import ResumePoints

log = observe.logger(__name__)
EVERY_S = 60.0


class Stake:
    def __init__(self, runner: JobRunner, points: ResumePoints, job: JobSpec) -> None:
        self._runner, self._points, self._job = runner, points, job
        self._noted_at = -inf

    def note(self, status: JobStatus, progress: Progress) -> None:
        """At most every EVERY_S. A runner that cannot be told keeps what it was told before: no training waits for it.

        `progress` is the run's, in steps with their rate. Where there is no GPU, a node counts as one.
        """
        is_training = status.state is JobState.RUNNING and progress.stage == "training" and progress.rate > 0
        if not is_training or time.monotonic() - self._noted_at < EVERY_S:
            return
        self._noted_at = time.monotonic()
        try:
            steps = max(0.0, progress.done - self._points.newest())
            gpus = max(1, self._job.gpus) * self._job.nodes
            self._runner.note_at_stake(self._job.id, gpus * steps / progress.rate)
        except LrmError as error:
            log.warning("stake_not_noted", job=self._job.id, error=str(error))
