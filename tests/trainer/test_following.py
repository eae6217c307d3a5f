"""A run and its Job, with a runner that plays a script: adoption, lost jobs, errors, cancel."""

import time

import pytest

from lrm_safety import jsonl, outages
from lrm_safety.adoption import Adoption
from lrm_safety.errors import Conflict, Denied, InvalidInput, NotFound, Unavailable
from lrm_safety.jobs import JobSpec, JobState, JobStatus
from lrm_safety.jobs.machine import Machine
from lrm_safety.nouns import Checkpoint, Progress, Run, RunSpec, RunState, TrainingSpec, has_ended
from lrm_safety.runs import RunHost, read_run, run_id
from services.trainer import following, stake
from services.trainer.following import JobRun
from services.trainer.jobs import STOPS_IN_S, worker_job
from services.trainer.ledger import Ledger
from services.trainer.resume import ResumePoints
from tests.bench.test_evaluate import wait_for

DONE, FAILED, RUNNING = JobState.DONE, JobState.FAILED, JobState.RUNNING


class ScriptedRunner:
    """Each submitted job runs through its script of states; `on_end` writes what its worker would have written."""

    def __init__(self, *scripts, on_end=lambda job: None):
        self.scripts, self.on_end = list(scripts), on_end
        self.jobs: dict[str, list[JobState]] = {}
        self.submitted: list[str] = []
        self.exit_code: int | None = None
        self.reason = ""
        self.at_stake: list[float] = []

    def submit(self, spec: JobSpec) -> JobStatus:
        if spec.id not in self.jobs:
            self.submitted.append(spec.id)
            self.jobs[spec.id] = list(self.scripts.pop(0))
        return self.status(spec.id)

    def status(self, job_id: str) -> JobStatus:
        if job_id not in self.jobs:
            raise NotFound(job_id)
        states = self.jobs[job_id]
        state = states.pop(0) if len(states) > 1 else states[0]
        status = JobStatus(job_id, state, exit_code=self.exit_code, waiting="for a GPU", reason=self.reason)
        if status.has_ended:
            self.on_end(job_id)
        return status

    def logs(self, job_id: str, tail: int = 50) -> str:
        return ""

    def note_at_stake(self, job_id: str, gpu_seconds: float) -> None:
        self.at_stake.append(gpu_seconds)

    def cancel(self, job_id: str, grace_s: float = 10.0) -> JobStatus:
        self.jobs[job_id] = [JobState.CANCELLED]
        return self.status(job_id)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(following, "POLL_S", 0.01)


@pytest.fixture
def follow(store):
    """follow(runner) asks for the run and waits for its end; the same run each time."""
    host = RunHost(store)

    def ask(runner, until=has_ended):
        work = JobRun(runner, lambda run, attempt: JobSpec(id=f"{run.id}-{attempt}", command=["x"]))
        run = host.start("training", RunSpec(training=TrainingSpec(name="tuned")), work)
        deadline = time.monotonic() + 10
        while not until(run := host.get(run.id)):
            assert time.monotonic() < deadline, run
            time.sleep(0.01)
        return run

    return ask


def finish(store):
    return lambda job: Ledger(store, job.rsplit("-", 1)[0], 1).finish(Checkpoint(name="tuned", digest="d"))


def test_a_job_that_ends_well(store, follow):
    runner = ScriptedRunner([JobState.QUEUED, RUNNING, DONE], on_end=finish(store))
    run = follow(runner)
    assert (run.state, run.result) == (RunState.RUN_STATE_DONE, "tuned@d")
    assert runner.submitted == [f"{run.id}-1"]


def test_waiting_is_mirrored(follow):
    assert follow(ScriptedRunner([JobState.QUEUED]), until=lambda run: run.waiting).waiting == "for a GPU"


def test_progress_is_mirrored(store, follow):
    runner = ScriptedRunner([RUNNING])
    run = follow(runner, until=lambda run: run.progress.stage == "starting")
    Ledger(store, run.id, 1).progress("training", 3, 10, "steps")
    seen = follow(runner, until=lambda run: run.progress.stage == "training").progress
    assert (seen.done, seen.total, seen.unit) == (3, 10, "steps")


def test_what_is_at_stake_grows_with_each_step_and_is_nothing_after_a_resume_point(store, tmp_path, monkeypatch):
    """In GPU-seconds, told now and then; a cluster that refuses to hear it stops nobody."""
    runner, points = ScriptedRunner(), ResumePoints(store, "training-1")
    (tmp_path / "state").touch()
    spec, status = JobSpec(id="training-1-1", command=["x"], gpus=4, nodes=2), JobStatus("training-1-1", RUNNING)
    told = stake.Stake(runner, points, spec)

    def note(stage: str, done: float, rate: float) -> list[float]:
        told.note(status, Progress(stage=stage, done=done, rate=rate, unit="steps"))
        return runner.at_stake

    assert note("preparing", 1, 1) == note("training", 3, 0) == []
    assert note("training", 3, 0.5) == note("training", 4, 0.5) == [8 * 3 / 0.5]
    monkeypatch.setattr(stake, "EVERY_S", 0.0)
    points.write_share(4, 0, {})
    points.complete(4, processes=1, keep=1, is_given_up=lambda: False)
    assert note("training", 4, 0.5)[1:] == [0]
    assert note("training", 5, 0.5)[2:] == [8 * 1 / 0.5]

    def refuse(job_id, gpu_seconds):
        raise Denied("its Role must grant patch")

    runner.note_at_stake = refuse
    note("training", 6, 0.5)


def test_what_is_at_stake_is_told_while_the_job_runs(store, follow, monkeypatch):
    monkeypatch.setattr(stake, "EVERY_S", 0.0)
    runner = ScriptedRunner([RUNNING])
    ledger = Ledger(store, follow(runner, until=lambda run: run.progress.stage == "starting").id, 1)
    for done in (3, 4):
        ledger.progress("training", done, 4, "steps")
        follow(runner, until=lambda run, done=done: run.progress.done == done)
    wait_for(lambda: runner.at_stake and runner.at_stake[-1] > 0)


def test_a_killed_job_is_replaced_twice_at_most(follow):
    runner = ScriptedRunner([RUNNING, FAILED], [FAILED], [RUNNING, FAILED])
    run = follow(runner)
    assert run.state == RunState.RUN_STATE_FAILED
    assert runner.submitted == [f"{run.id}-{attempt}" for attempt in (1, 2, 3)]
    assert "killed 3 times" in run.error
    assert f"jobs/{run.id}-3/log" in run.error


def test_the_reason_of_the_last_end_is_passed_on(follow):
    runner = ScriptedRunner([FAILED], [FAILED], [FAILED])
    runner.reason = "it used more memory than it asked for (8192Mi)"
    assert "killed 3 times (it used more memory than it asked for (8192Mi))" in follow(runner).error


def test_a_job_that_an_earlier_release_made_differently_is_adopted(store, follow):
    class Stricter(ScriptedRunner):
        def submit(self, spec):
            raise Conflict(f"another job {spec.id}, which asks for something else")

    id_ = run_id("training", RunSpec(training=TrainingSpec(name="tuned")))
    runner = Stricter(on_end=finish(store))
    runner.jobs = {f"{id_}-1": [RUNNING, RUNNING, DONE]}
    assert follow(runner).state == RunState.RUN_STATE_DONE


def test_asking_again_makes_a_new_attempt(store, follow):
    follow(ScriptedRunner([FAILED], [FAILED], [FAILED]))
    run = follow(ScriptedRunner([DONE], on_end=finish(store)))
    assert run.state == RunState.RUN_STATE_DONE


def test_a_reported_error_is_not_retried(store, follow):
    def report(job):
        Ledger(store, job.rsplit("-", 1)[0], 1).fail(InvalidInput("max_tokens is 1; raise it"))

    runner = ScriptedRunner([RUNNING, FAILED], on_end=report)
    run = follow(runner)
    assert run.state == RunState.RUN_STATE_FAILED
    assert run.error == f"max_tokens is 1; raise it (log: jobs/{run.id}-1/log in the store)"
    assert len(runner.submitted) == 1
    retried = ScriptedRunner([DONE], on_end=finish(store))
    assert follow(retried).state == RunState.RUN_STATE_DONE
    assert retried.submitted == [f"{run.id}-2"]


def test_the_exit_code_alone_is_enough_to_stop(follow):
    runner = ScriptedRunner([FAILED])
    runner.exit_code = 65
    run = follow(runner)
    assert "refused its input" in run.error
    assert len(runner.submitted) == 1


def test_cancel_ends_the_job(store, follow):
    runner = ScriptedRunner([RUNNING])
    run = follow(runner, until=lambda run: run.progress.stage == "starting")
    store.write(f"runs/{run.id}/cancel", b"")
    wait_for(lambda: read_run(store, run.id).state == RunState.RUN_STATE_CANCELLED)
    assert runner.jobs[f"{run.id}-1"] == [JobState.CANCELLED]


def test_a_job_that_is_there_is_adopted(store, follow):
    id_ = run_id("training", RunSpec(training=TrainingSpec(name="tuned")))
    runner = ScriptedRunner(on_end=lambda job: finish(store)(job) if job == f"{id_}-2" else None)
    runner.jobs = {f"{id_}-1": [FAILED], f"{id_}-2": [RUNNING, RUNNING, DONE]}
    run = follow(runner)
    assert run.state == RunState.RUN_STATE_DONE
    assert runner.submitted == []


def test_an_orphan_of_a_cluster_finds_its_job_again(store):
    """Its trainer is gone; the job is not. Another trainer adopts the run, and asks for no job."""
    asked = RunSpec(training=TrainingSpec(name="tuned"))
    run = Run(id=run_id("training", asked), kind="training", spec=asked, epoch=1)
    store.write(f"runs/{run.id}/spec.json", jsonl.dumps(run).encode())
    store.write(f"runs/{run.id}/epochs/000001.json", b"elsewhere 1 1 1")
    store.write(f"open/{run.id}", b"")
    runner = ScriptedRunner(on_end=finish(store))
    runner.jobs = {f"{run.id}-1": [RUNNING, RUNNING, DONE]}
    work = JobRun(runner, lambda run, attempt: JobSpec(id=f"{run.id}-{attempt}", command=["x"]), patience_s=60)
    Adoption(RunHost(store, is_adopted=True), {"training": lambda run: work}).look()
    wait_for(lambda: read_run(store, run.id).state == RunState.RUN_STATE_DONE)
    assert (runner.submitted, read_run(store, run.id).epoch) == ([], 2)


def test_in_a_cluster_a_runner_or_a_store_may_be_away_for_a_while(store, monkeypatch):
    monkeypatch.setattr(outages, "PAUSE_S", 0.05)
    runner = ScriptedRunner([RUNNING, RUNNING, DONE], on_end=finish(store))
    silent = iter([True, False, True, False, False])
    status = runner.status

    def moody(job_id):
        if next(silent, False):
            raise Unavailable("the API server does not answer")
        return status(job_id)

    runner.status = moody
    work = JobRun(runner, lambda run, attempt: JobSpec(id=f"{run.id}-{attempt}", command=["x"]), patience_s=60)
    host = RunHost(store, is_adopted=True)
    run = host.start("training", RunSpec(training=TrainingSpec(name="tuned")), work)
    wait_for(lambda: host.get(run.id).state == RunState.RUN_STATE_DONE)
    assert len(runner.submitted) == 1


@pytest.mark.parametrize("nodes", [1, 2])
def test_torchrun_leaves_it_to_the_runner_how_long_a_save_may_take(nodes):
    """By itself it kills processes 30 s after SIGTERM."""
    run = Run(id="training-1", spec=RunSpec(training=TrainingSpec(processes=4, nodes=nodes)))
    command = worker_job(run, 1e6, 1, Machine(cpus=4, memory_gib=64)).command
    launcher = command[: command.index("services.trainer.worker")]
    assert f"--shutdown-timeout={STOPS_IN_S}" in launcher and STOPS_IN_S > 3600
