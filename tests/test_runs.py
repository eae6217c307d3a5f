"""Runs: identity, one owner at a time, resume, cancel, and nothing lost or counted twice."""

import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from lrm_safety import runs
from lrm_safety.errors import Conflict, InvalidInput, NotFound
from lrm_safety.nouns import DatasetSpec, Example, Run, RunSpec, RunState
from lrm_safety.runs import OwnedRun, RunHost, read_parts, read_run, run_id
from lrm_safety.store import ObjectStore
from lrm_safety.store.files import FileStore

SPEC = RunSpec(dataset=DatasetSpec(name="x", seed=1))
DONE, FAILED, CANCELLED = RunState.RUN_STATE_DONE, RunState.RUN_STATE_FAILED, RunState.RUN_STATE_CANCELLED


def ended(host: RunHost, run: Run, timeout_s: float = 10) -> Run:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if (now := host.get(run.id)).state in (DONE, FAILED, CANCELLED) and now.epoch >= run.epoch:
            return now
        time.sleep(0.02)
    raise AssertionError(f"{run.id} did not end")


def test_the_id_is_the_question() -> None:
    same = RunSpec(dataset=DatasetSpec(name="x", seed=1))
    assert run_id("dataset", SPEC, "a") == run_id("dataset", same, "a")
    others = {run_id("dataset", SPEC, "b"), run_id("dataset", RunSpec(dataset=DatasetSpec(name="y", seed=1)), "a")}
    assert run_id("dataset", SPEC, "a") not in others
    assert len(run_id("training", SPEC)) <= 63


def test_asking_again_does_not_work_again(store: ObjectStore) -> None:
    host, calls = RunHost(store), []

    def work(run: OwnedRun) -> str:
        calls.append(run.epoch)
        run.progress("only", 3, 3, "rows", {"loss": 0.5})
        return "x@1"

    first = ended(host, host.start("dataset", SPEC, work))
    again = RunHost(store).start("dataset", SPEC, work)
    assert (first.state, first.result, again.state, again.result) == (DONE, "x@1", DONE, "x@1")
    assert calls == [1]
    assert again.progress.done == 3 and again.progress.metrics["loss"] == 0.5


def test_a_failed_run_goes_on_under_the_next_epoch_with_its_rows(store: ObjectStore) -> None:
    host = RunHost(store)

    def work(run: OwnedRun) -> str:
        have = {row.id for row in run.parts(Example)}
        run.commit([Example(id=f"{run.epoch}")])
        if run.epoch == 1:
            raise InvalidInput("the file x.jsonl, line 3, is not JSON")
        assert have == {"1"}
        return "x@2"

    failed = ended(host, host.start("dataset", SPEC, work))
    assert failed.state == FAILED and "line 3" in failed.error
    assert ended(host, host.start("dataset", SPEC, work)).state == DONE
    assert [row.id for row in read_parts(store, failed.id, Example)] == ["1", "2"]


def test_a_defect_of_ours_ends_as_failed_without_its_text(store: ObjectStore) -> None:
    def work(run: OwnedRun) -> str:
        raise ZeroDivisionError("harmful text")

    run = ended(RunHost(store), RunHost(store).start("dataset", SPEC, work))
    assert run.state == FAILED and "ZeroDivisionError" in run.error and "harmful" not in run.error


def test_cancel_is_seen_between_commits_and_asking_again_goes_on(store: ObjectStore) -> None:
    host, go = RunHost(store), threading.Event()

    def work(run: OwnedRun) -> str:
        go.wait(5)
        run.check_cancelled()
        return "x@3"

    run = host.start("dataset", SPEC, work)
    store.write(f"runs/{run.id}/cancel", b"")
    go.set()
    assert ended(host, run).state == CANCELLED
    assert ended(host, host.start("dataset", SPEC, work)).state == DONE


def test_an_owner_that_lost_its_run_commits_nothing(store: ObjectStore) -> None:
    host, lost, go = RunHost(store), [], threading.Event()

    def work(run: OwnedRun) -> str:
        go.wait(5)
        with pytest.raises(Conflict):
            run.commit([Example(id="late")])
        lost.append(run.id)
        return "never"

    run = host.start("dataset", SPEC, work)
    store.create(f"runs/{run.id}/epochs/000002.json", b"elsewhere 1 1 1")
    go.set()
    deadline = time.monotonic() + 5
    while not lost and time.monotonic() < deadline:
        time.sleep(0.02)
    assert lost and not list(read_parts(store, run.id, Example))
    assert not store.stat(f"runs/{run.id}/result.json")


def test_racing_hosts_start_one_owner(store: ObjectStore) -> None:
    epochs: list[int] = []

    def work(run: OwnedRun) -> str:
        epochs.append(run.epoch)
        time.sleep(0.3)
        return "x@4"

    def ask() -> None:
        RunHost(store).start("dataset", SPEC, work)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ended(RunHost(store), Run(id=run_id("dataset", SPEC)))
    assert epochs == [1]


def test_kill_minus_nine_three_times_loses_nothing(tmp_path: Path) -> None:
    """An owner that is killed in the middle of its rows; the next one finds what was committed and no half part."""
    code = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from lrm_safety.nouns import DatasetSpec, Example, RunSpec
        from lrm_safety.runs import RunHost
        from lrm_safety.store.files import FileStore
        def work(run):
            have = {row.id for row in run.parts(Example)}
            for number in range(60):
                if str(number) not in have:
                    run.commit([Example(id=str(number))])
                    time.sleep(0.02)
            return "done"
        host = RunHost(FileStore(Path(sys.argv[1])))
        run = host.start("dataset", RunSpec(dataset=DatasetSpec(name="x", seed=1)), work)
        while not host.get(run.id).result: time.sleep(0.02)
        """
    )
    store, id_ = FileStore(tmp_path), run_id("dataset", SPEC)
    for kill_after in (0.3, 0.2, 0.4, None):
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
        if kill_after is None:
            assert process.wait(30) == 0
            continue
        before = len(list(read_parts(store, id_, Example)))
        while len(list(read_parts(store, id_, Example))) == before:
            time.sleep(0.01)
        time.sleep(kill_after / 4)
        process.kill()
        process.wait()
        assert RunHost(store).get(id_).waiting == runs.OWNER_GONE
    assert sorted(int(row.id) for row in read_parts(store, id_, Example)) == list(range(60))
    assert read_run(store, id_).epoch == 4


def test_no_such_run(store: ObjectStore) -> None:
    with pytest.raises(NotFound, match="lrm runs list"):
        read_run(store, "dataset-0")


def test_what_stands_still_is_measured(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "HEARTBEAT_S", 0.05)
    go, done = threading.Event(), threading.Event()

    def work(run: OwnedRun) -> str:
        run.progress("count", 1, 2, "rows")
        go.wait(10)
        run.waiting("for a GPU")
        done.wait(10)
        return "x@5"

    def metric(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, {"kind": "dataset", **labels}) or 0.0

    def active(state: str) -> float:
        return metric("lrm_run_active", state=f"RUN_STATE_{state}")

    host = RunHost(store)
    run = host.start("dataset", SPEC, work)
    time.sleep(0.4)
    assert (active("RUNNING"), active("QUEUED")) == (1, 0)
    assert 0.2 < metric("lrm_run_progress_age_seconds") < 5 and metric("lrm_run_waiting_seconds") == 0
    go.set()
    time.sleep(0.4)
    assert (active("RUNNING"), active("QUEUED")) == (0, 1)
    assert 0.2 < metric("lrm_run_waiting_seconds") < 5 and metric("lrm_run_progress_age_seconds") == 0
    done.set()
    ended(host, run)
    time.sleep(0.2)
    assert active("RUNNING") == active("QUEUED") == metric("lrm_run_waiting_seconds") == 0
