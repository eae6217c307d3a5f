"""Every runner under the same questions. Another adapter is one more parameter and one more branch."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count

import pytest

from lrm_safety.errors import NotFound
from lrm_safety.jobs import JobRunner, JobSpec, JobState, JobStatus, open_runner
from lrm_safety.settings import Settings

numbers = count()
PATIENCE_S = 60.0  # this may be a very busy machine


@dataclass
class Machine:
    """A runner with nothing on it, and what a test says often."""

    settings: Settings
    runner: JobRunner = field(init=False)
    submitted: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.runner = open_runner(self.settings)

    def spec(self, command: list[str] | str, **wishes: object) -> JobSpec:
        """A job of a Python program (str) or a command, with an id of its own; 0 cpus unless it wishes for some."""
        if isinstance(command, str):
            command = [sys.executable, "-S", "-c", command]
        spec = JobSpec(**{"id": f"job-{next(numbers)}", "command": command, "cpus": 0, "memory_gib": 0, **wishes})
        self.submitted.append(spec.id)
        return spec

    def submit(self, command: list[str] | str, **wishes: object) -> str:
        return self.runner.submit(self.spec(command, **wishes)).id

    def wait(self, job_id: str, *states: JobState) -> JobStatus:
        """Until the job is in one of the states (without any: until it has ended)."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            status = self.runner.status(job_id)
            if status.state in states or (not states and status.has_ended):
                return status
            time.sleep(0.05)
        raise AssertionError(f"after {PATIENCE_S} s still {self.runner.status(job_id)}")

    def wait_for_log(self, job_id: str, text: str) -> str:
        wait_until(lambda: text in self.runner.logs(job_id))
        return self.runner.logs(job_id)


@pytest.fixture(params=["local"])
def machine(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Machine]:
    assert request.param == settings.jobs
    made = Machine(settings)
    yield made
    for job_id in made.submitted:
        with suppress(NotFound):  # refused at submit
            made.runner.cancel(job_id, grace_s=0)


def wait_until(is_so: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < until, f"not so after {PATIENCE_S} s"
        time.sleep(0.05)
