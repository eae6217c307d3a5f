"""Datasets that models write: budgets, and builds that end early and are asked for again."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lrm_safety import artefacts
from lrm_safety.clients import Clients, rpc
from lrm_safety.errors import InvalidInput, Unavailable
from lrm_safety.nouns import (
    Budget,
    CancelRunRequest,
    Completion,
    Dataset,
    DatasetSpec,
    DeployRequest,
    Example,
    Run,
    RunState,
    Usage,
    Written,
)
from lrm_safety.runs import read_parts
from lrm_safety.settings import Settings
from lrm_safety.store import ObjectStore
from services.data import service
from services.data.reading import read_examples
from services.inference import service as inference_service
from tests.bench.scripted import ScriptedInference
from tests.data import files
from tests.data.scripted_ask import completed
from tests.data.scripted_build import (
    ANSWER_TOKENS,
    ASKED,
    GRADED,
    Script,
    ask,
    asked_by,
    built,
    ended,
    spec,
)
from tests.fakes.scripted_engine import ScriptedEngine, scripted_engine  # noqa: F401  (a fixture)


@ASKED
def test_the_budget_is_kept_and_nothing_is_lost(
    script: Script, questions: Path, clients: Clients, store: ObjectStore, who: str
) -> None:
    script.answer = lambda text: Completion(
        thinking="Hm.", answer=GRADED, finish_reason="stop", usage=Usage(prompt_tokens=10, completion_tokens=10)
    )
    run = ended(clients, ask(clients, asked_by(who, questions, budget=Budget(max_tokens=200))))
    assert run.state == RunState.RUN_STATE_FAILED
    assert "the budget is used up" in run.error
    finished = {written.key for written in read_parts(store, run.id, Written)}
    spent = 10 * sum(script.asked.values())
    assert 200 - ANSWER_TOKENS < spent <= 200
    assert len(finished) == len(script.asked) == spent / 10
    again = ended(clients, ask(clients, asked_by(who, questions, budget=Budget(max_tokens=200))))
    assert (again.id, again.epoch, again.state) == (run.id, 2, RunState.RUN_STATE_FAILED)
    assert 10 * sum(script.asked.values()) == spent  # what was spent before counts
    assert list(store.list("datasets/")) == []


def test_the_cost_is_kept_too(script: Script, questions: Path, clients: Clients, store: ObjectStore) -> None:
    paid = spec(questions, budget=Budget(max_cost=0.01))
    with pytest.raises(InvalidInput, match="max_cost needs prompt_price and completion_price of base"):
        ask(clients, paid)
    paid.parts[0].writer.completion_price = 100.0  # 2,000 of 1e6 tokens for 0.2
    run = ended(clients, ask(clients, paid))
    assert "max_cost 0.01" in run.error
    written = list(read_parts(store, run.id, Written))
    assert 0 < sum(each.asked.cost for each in written) <= 0.01


def test_a_dead_engine_ends_the_build_and_what_is_finished_stays(
    script: Script, clients: Clients, tmp_path: Path
) -> None:
    texts = [f"Question {n}?" for n in range(200)]  # so many that ten late answers cannot part 16 errors in a row
    questions = files.jsonl(tmp_path / "many.jsonl", [{"id": n, "prompt": text} for n, text in enumerate(texts)])
    good, alive = script.answer, set(texts[:10])
    script.answer = lambda text: good(text) if text in alive else Completion(error="HTTP 500")
    run = ended(clients, ask(clients, spec(questions)))
    assert run.state == RunState.RUN_STATE_FAILED
    assert "the engine of base failed 16 times in a row" in run.error
    script.answer, before = good, Counter(script.asked)
    again = ended(clients, ask(clients, spec(questions)))
    assert (again.id, again.state) == (run.id, RunState.RUN_STATE_DONE), again.error
    assert {text for text in before if script.asked[text] == before[text]} == alive


def test_a_build_that_waits_for_an_answer_can_be_cancelled(
    script: Script, questions: Path, clients: Clients, store: ObjectStore
) -> None:
    answering = threading.Event()
    script.wait = lambda text: answering.wait(30)
    run = ask(clients, spec(questions))
    try:
        rpc(clients.runs("data").CancelRun, CancelRunRequest(id=run.id))
        assert ended(clients, run).state == RunState.RUN_STATE_CANCELLED
    finally:
        answering.set()


@pytest.fixture
def data_process(settings: Settings, tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen]]:
    """Starts a data service of its own process; the last one ends with the test."""
    env = {**os.environ, **settings.to_env(), "LRM_METRICS_PORT": "0"}
    started: list[subprocess.Popen] = []

    def start() -> subprocess.Popen:
        with (tmp_path / "data.log").open("ab") as log:
            started.append(
                subprocess.Popen([sys.executable, "-m", "services", "data"], env=env, stdout=log, stderr=log)
            )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def patiently(clients: Clients, asked: DatasetSpec) -> Run:
    deadline = time.monotonic() + 60
    while True:
        try:
            return ask(clients, asked)
        except Unavailable:
            assert time.monotonic() < deadline, "the data service did not start"
            time.sleep(0.2)


@ASKED
def test_killed_it_goes_on_and_asks_nothing_again_that_was_committed(
    serve: Callable,
    clients: Clients,
    store: ObjectStore,
    questions: Path,
    data_process: Callable[[], subprocess.Popen],
    who: str,
) -> None:
    is_killed, quick = threading.Event(), {f"Question {n}?" for n in range(20)}
    script = Script(lambda text: completed(f"<think>\nHm, {text}\n</think>\n\n{GRADED}"))
    script.wait = lambda text: text in quick or is_killed.wait(60)
    serve("inference", ScriptedInference(script=script).register)
    process = data_process()
    run = patiently(clients, asked_by(who, questions))
    deadline = time.monotonic() + 60
    while not list(read_parts(store, run.id, Written)):
        assert time.monotonic() < deadline, "what is finished was not committed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    first = int(who == "builder")  # rows are counted from 1, and the ids that filters see from 0
    numbers = [int(each.key.removeprefix("p/")) - first for each in read_parts(store, run.id, Written)]
    committed = {f"Question {number}?" for number in numbers}
    assert committed <= quick
    is_killed.set()

    data_process()
    again = patiently(clients, asked_by(who, questions))
    assert (again.id, again.epoch) == (run.id, 2)
    last = ended(clients, again)
    assert last.state == RunState.RUN_STATE_DONE, last.error
    made = artefacts.find(store, "datasets", Dataset, last.result)
    assert made.examples == made.asked.rows == 40
    assert {script.asked[text] for text in committed} == {1}
    keys = [each.key for each in read_parts(store, run.id, Written)]
    assert len(keys) == len(set(keys)) == 40
    assert built(clients, store, asked_by(who, questions, name="at-once")).digest == made.digest


def test_through_the_real_inference_service_a_raised_budget_goes_on_from_memory(
    serve: Callable,
    clients: Clients,
    store: ObjectStore,
    questions: Path,
    scripted_engine: ScriptedEngine,  # noqa: F811
) -> None:
    serve("inference", inference_service.register)
    serve("data", service.register)
    rpc(clients.inference.Deploy, DeployRequest(name="base", url=scripted_engine.url, model=scripted_engine.model))
    poor = ended(clients, ask(clients, spec(questions, budget=Budget(max_tokens=100))))
    assert "the budget is used up" in poor.error
    before = len(scripted_engine.requests)
    assert 0 < before < 40
    made = built(clients, store, spec(questions))
    assert len(scripted_engine.requests) == 40
    assert made.asked.cached == before
    example: Example = next(read_examples(store, made))
    assert example.thinking == f"about: {example.prompt}"
