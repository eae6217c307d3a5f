"""Runs without an owner are taken over, once, cheaply, and only those that want it; owners that go hand theirs over."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from prometheus_client import REGISTRY

from lrm_safety import adoption, epochs, jsonl, outages, runs
from lrm_safety.adoption import CHANGED, Adoption
from lrm_safety.errors import Conflict, InvalidInput, Unavailable
from lrm_safety.nouns import DatasetSpec, Example, Run, RunSpec, RunState, Tenant
from lrm_safety.runs import OwnedRun, RunHost, Work, read_parts, read_run, run_id
from lrm_safety.store import ObjectStore
from tests.bench.test_evaluate import wait_for

SPEC = RunSpec(dataset=DatasetSpec(name="x"))
ID = run_id("dataset", SPEC)
DONE, FAILED, CANCELLED = RunState.RUN_STATE_DONE, RunState.RUN_STATE_FAILED, RunState.RUN_STATE_CANCELLED


def orphan(store: ObjectStore, state: int = RunState.RUN_STATE_RUNNING, age_s: float = 60) -> Run:
    """A run whose owner, on another machine, has not been heard of for `age_s`."""
    then = time.time() - age_s
    run = Run(id=ID, kind="dataset", spec=SPEC, state=state, created_at=then, updated_at=then, epoch=1)
    run.tenant.CopyFrom(Tenant(team="red"))
    for name in ("spec", "state"):
        store.write(f"runs/{ID}/{name}.json", jsonl.dumps(run).encode())
    store.write(f"runs/{ID}/epochs/000001.json", f"elsewhere 1 1 {then}".encode())
    store.write(f"open/{ID}", b"")
    return run


def adopting(store: ObjectStore, work: Work) -> tuple[RunHost, Adoption]:
    host = RunHost(store, is_adopted=True)
    return host, Adoption(host, {"dataset": lambda run: work})


def test_an_orphan_goes_on_from_its_rows(store: ObjectStore) -> None:
    orphan(store)
    store.write(f"runs/{ID}/parts/000001-000000.jsonl.zst", jsonl.pack([Example(id="a")]))

    def work(run: OwnedRun) -> str:
        assert [row.id for row in run.parts(Example)] == ["a"]
        run.commit([Example(id="b")])
        return "x@1"

    host, adopter = adopting(store, work)
    assert host.get(ID).waiting == runs.TAKEN_OVER
    adopter.look()
    wait_for(lambda: read_run(store, ID).state == DONE)
    assert read_run(store, ID).tenant.team == "red" and read_run(store, ID).epoch == 2
    assert [row.id for row in read_parts(store, ID, Example)] == ["a", "b"]
    wait_for(lambda: not list(runs.open_runs(store, "dataset")))


def test_an_owner_that_lives_is_left_alone(store: ObjectStore) -> None:
    orphan(store, age_s=5)
    _, adopter = adopting(store, lambda run: "x@1")
    adopter.look()
    assert epochs.newest(store, ID) == 1


def test_of_many_that_adopt_at_once_one_does(store: ObjectStore) -> None:
    orphan(store)
    worked: list[int] = []

    def work(run: OwnedRun) -> str:
        worked.append(run.epoch)
        time.sleep(0.5)
        return "x@1"

    barrier = threading.Barrier(8)

    def look() -> None:
        _, adopter = adopting(store, work)
        barrier.wait()
        adopter.look()

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_for(lambda: read_run(store, ID).state == DONE)
    assert worked == [2]


def test_what_failed_stays_failed_and_what_was_cancelled_ends(store: ObjectStore) -> None:
    def never(run: OwnedRun) -> str:
        run.check_cancelled()
        raise AssertionError("it was not asked for")

    orphan(store, state=FAILED)
    _, adopter = adopting(store, never)
    adopter.look()
    assert epochs.newest(store, ID) == 1 and not list(runs.open_runs(store, "dataset"))
    orphan(store)
    store.write(f"runs/{ID}/cancel", b"")
    adopter.look()
    wait_for(lambda: read_run(store, ID).state == CANCELLED)


@pytest.mark.parametrize(
    ("error", "state"), [(InvalidInput("the file is gone"), FAILED), (Conflict(f"{ID}: {CHANGED}"), FAILED), (None, 2)]
)
def test_what_cannot_be_resumed_says_why_unless_that_may_pass(store: ObjectStore, error, state: int) -> None:
    orphan(store)

    def resume(run: Run) -> Work:
        raise error or Unavailable("the judge is away")

    Adoption(RunHost(store, is_adopted=True), {"dataset": resume}).look()
    wait_for(lambda: read_run(store, ID).state == state)
    assert read_run(store, ID).error == (str(error) if error else "")
    assert epochs.newest(store, ID) == (2 if error else 1)
    assert REGISTRY.get_sample_value("lrm_run_unowned", {"kind": "dataset"}) == (0 if error else 1)


class Counting:
    """A store that counts what it is asked."""

    def __init__(self, store: ObjectStore) -> None:
        self._store, self.asked = store, Counter[str]()

    def __getattr__(self, name: str) -> Callable[..., object]:
        method = getattr(self._store, name)

        def counted(*args: object) -> object:
            self.asked[name] += 1
            return method(*args)

        return counted


def test_runs_that_have_ended_cost_nothing(store: ObjectStore) -> None:
    for number in range(200):
        store.write(f"runs/dataset-{number:016x}/result.json", b"{}")
    orphan(store)
    counting = Counting(store)
    _, adopter = adopting(counting, lambda run: "x@1")  # type: ignore[arg-type]
    adopter.look()
    wait_for(lambda: read_run(store, ID).state == DONE)
    wait_for(lambda: not list(runs.open_runs(store, "dataset")))
    counting.asked.clear()
    adopter.look()
    assert counting.asked == {"list": 1}


@pytest.fixture
def every_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adoption, "EVERY_S", 0.05)
    monkeypatch.setattr(runs, "HEARTBEAT_S", 0.1)


def counting_to(limit: int, rows: list[str]) -> Work:
    def work(run: OwnedRun) -> str:
        have = {row.id for row in run.parts(Example)}
        for number in range(limit):
            run.check_cancelled()
            if str(number) not in have:
                run.commit([Example(id=str(number))])
                run.progress("count", number + 1, limit, "rows")
                rows.append(f"{run.epoch}/{number}")
                time.sleep(0.02)
        return "x@1"

    return work


def test_an_owner_that_goes_hands_over_at_once(store: ObjectStore, every_moment: None) -> None:
    """Both hosts are of this process, which lives: only its word tells that the first is gone."""
    rows: list[str] = []
    first, second = RunHost(store, is_adopted=True), RunHost(store, is_adopted=True)
    Adoption(second, {"dataset": lambda run: counting_to(60, rows)}).start()
    first.start("dataset", SPEC, counting_to(60, rows))
    wait_for(lambda: len(rows) > 5)
    started = time.monotonic()
    first.release()
    assert time.monotonic() - started < 1
    with pytest.raises(Unavailable, match="stopping"):
        first.go_on(ID, counting_to(1, rows))
    wait_for(lambda: epochs.newest(store, ID) == 2, within_s=2)
    wait_for(lambda: read_run(store, ID).state == DONE)
    second.release()
    assert [int(row.split("/")[1]) for row in rows] == list(range(60)), "each once, in order"
    assert {row.split("/")[0] for row in rows} == {"1", "2"}


def test_work_that_does_not_stop_is_left_in_the_middle(store: ObjectStore) -> None:
    go = threading.Event()

    def deaf(run: OwnedRun) -> str:
        go.wait(10)
        return "x@1"

    host = RunHost(store)
    host.start("dataset", SPEC, deaf)
    host.release(timeout_s=0.2)
    assert not epochs.has_living_owner(store, read_run(store, ID))
    go.set()


def test_an_owner_that_lost_its_run_learns_it_and_writes_no_more(store: ObjectStore, every_moment: None) -> None:
    """As after a network that was cut: the old owner commits nothing, it only follows a job."""
    seen: list[str] = []

    def following(run: OwnedRun) -> str:
        try:
            while True:
                run.progress("follow", 1, 2, "steps")
                run.check_cancelled()
                time.sleep(0.02)
        except Conflict as error:
            seen.append(str(error))
            raise

    host = RunHost(store)
    host.start("dataset", SPEC, following)
    store.create(f"runs/{ID}/epochs/000002.json", b"elsewhere 1 1 1")
    wait_for(lambda: bool(seen))
    mark = Run(id=ID, epoch=2, state=RunState.RUN_STATE_RUNNING)
    store.write(f"runs/{ID}/state.json", jsonl.dumps(mark).encode())
    time.sleep(0.5)
    assert read_run(store, ID) == mark


@pytest.fixture
def owned(store: ObjectStore) -> Iterator[OwnedRun]:
    yield OwnedRun(store, Run(id=ID, epoch=1))


def test_outages_are_got_over_while_there_is_progress(owned: OwnedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "PAUSE_S", 0.05)
    monkeypatch.setattr(outages, "POLL_S", 0.01)
    kept: list[int] = []

    def work() -> str:
        kept.append(1)
        if len(kept) < 6:
            raise Unavailable("the judge is away")
        return "done"

    assert outages.get_over(owned, work, 0.15, lambda: len(kept)) == "done"
    kept.clear()
    with pytest.raises(Unavailable, match="the judge is away"):
        outages.get_over(owned, work, 0.15)
    assert 1 < len(kept) < 6


def test_here_an_outage_is_an_error_at_once(owned: OwnedRun) -> None:
    tried: list[int] = []

    def work() -> str:
        tried.append(1)
        raise Unavailable("the judge is away")

    with pytest.raises(Unavailable):
        outages.get_over(owned, work, 0.0)
    assert tried == [1]
