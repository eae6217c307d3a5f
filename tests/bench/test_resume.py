"""kill -9 of the bench service in the middle, and again during the recovery: no sample lost, none counted twice."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lrm_safety import serving
from lrm_safety.clients import Clients, rpc
from lrm_safety.errors import NotFound, Unavailable
from lrm_safety.nouns import BenchSpec, GetScorecardRequest, Run, RunState
from lrm_safety.settings import Settings, process_env
from lrm_safety.store import ObjectStore
from tests.bench.conftest import Stage, harm_spec
from tests.bench.scripted import ScriptedInference, ScriptedJudge
from tests.bench.test_evaluate import wait_for

SAMPLES = 400
ROOT = Path(__file__).resolve().parents[2]


class BenchProcess:
    """`python -m services bench` as a process of its own, between scripted neighbours."""

    def __init__(self, settings: Settings) -> None:
        self._env = process_env(
            {
                "LRM_STORE": settings.store,
                "LRM_STATE": str(settings.state_dir),
                "LRM_METRICS_PORT": "0",
                **{f"LRM_{name.upper()}_ADDR": address for name, address in settings.addresses.items()},
            }
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-m", "services", "bench"], env=self._env, cwd=ROOT)

    def kill(self) -> None:
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture
def killable(
    settings: Settings, store: ObjectStore, serve: Callable[[str, serving.Register], serving.Server]
) -> Iterator[tuple[BenchProcess, Callable[[], Stage]]]:
    inference, judge = ScriptedInference(delay_s=0.08), ScriptedJudge()
    serve("inference", inference.register)
    serve("judge", judge.register)
    bench = BenchProcess(settings)
    opened: list[Clients] = []

    def stage() -> Stage:
        opened.append(Clients(settings))  # a new channel: the old one backs off from the port it lost
        return Stage(opened[-1], store, inference, judge)

    yield bench, stage
    bench.kill()
    for clients in opened:
        clients.close()


def ask(stage: Stage, spec: BenchSpec) -> Run:
    """Asks as soon as the process answers."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return stage.start(spec)
        except Unavailable:
            assert time.monotonic() < deadline, "the bench process did not come up"
            time.sleep(0.2)


def test_killed_twice_nothing_is_lost_or_counted_twice(
    killable: tuple[BenchProcess, Callable[[], Stage]], harm_file: Callable[[int], str]
) -> None:
    bench, make = killable
    spec = harm_spec(harm_file(SAMPLES), limit=SAMPLES)

    def run_and_kill(least: int) -> dict[str, int]:
        """Killed once more than `least` samples are committed; how often each of those was asked."""
        bench.start()
        stage = make()
        run = ask(stage, spec)
        wait_for(lambda: len(stage.committed(run.id)) > least)
        bench.kill()
        return {record.key: stage.inference.asked[record.key] for record in stage.committed(run.id)}

    first = run_and_kill(0)
    kept = run_and_kill(len(first))
    assert 0 < len(first) < len(kept) < SAMPLES
    assert first.items() <= kept.items(), "committed samples were asked again"
    bench.start()
    stage = make()
    run = ask(stage, spec)
    wait_for(lambda: stage.state(run).state == RunState.RUN_STATE_DONE)
    keys = [record.key for record in stage.records(run.id)]
    assert len(keys) == len(set(keys)) == SAMPLES
    card = stage.measure(spec)
    assert (card.cells[0].n, card.cells[0].invalid) == (SAMPLES, 0)
    assert all(stage.inference.asked[key] == times for key, times in kept.items()), "committed samples were asked again"
    assert stage.state(run).epoch == 3


def test_killed_between_scorecard_and_result(stage: Stage, harm_file: Callable[[int], str]) -> None:
    """What a kill at that point leaves behind: everything but the result. The scorecard stands."""
    card = stage.measure(harm_spec(harm_file(5)))
    stage.store.delete(f"runs/{card.run}/result.json")
    stage.store.write(f"runs/{card.run}/state.json", stage.store.read(f"runs/{card.run}/spec.json"))
    asked = sum(stage.inference.asked.values())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lrm_safety.runs.RunHost.is_owned", lambda host, run: False)
        stage.start(harm_spec(harm_file(5)))
    wait_for(lambda: stage.state(Run(id=card.run)).state == RunState.RUN_STATE_DONE)
    assert stage.measure(harm_spec(harm_file(5))) == card
    assert sum(stage.inference.asked.values()) == asked


def test_an_unfinished_run_has_no_scorecard(stage: Stage, harm_file: Callable[[int], str]) -> None:
    stage.inference.delay_s = 0.2
    run = stage.start(harm_spec(harm_file(100)))
    with pytest.raises(NotFound, match="RUNNING"):
        rpc(stage.clients.bench.GetScorecard, GetScorecardRequest(run=run.id))
    with pytest.raises(NotFound, match="there is no run"):
        rpc(stage.clients.bench.GetScorecard, GetScorecardRequest(run="bench-0"))
