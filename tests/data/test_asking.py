"""Datasets that models write: order, states, budget, and runs that are killed, cancelled, and asked for again."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lrm_safety import artefacts, jsonl
from lrm_safety.clients import Clients, rpc, rpc_stream
from lrm_safety.errors import InvalidInput, Unavailable
from lrm_safety.nouns import (
    Asked,
    Budget,
    BuildDatasetRequest,
    CancelRunRequest,
    Completion,
    Dataset,
    DatasetSpec,
    DeployRequest,
    Drop,
    Example,
    FilterSpec,
    Prompt,
    Run,
    RunState,
    Sampling,
    ScoreItem,
    Usage,
    Verdict,
    WatchRunRequest,
    Writer,
    Written,
    user,
)
from lrm_safety.runs import read_parts
from lrm_safety.settings import Settings
from lrm_safety.store import ObjectStore
from services.data import asking, service
from services.data.asking import Ask, Asker, Asking, Models
from services.data.dropping import FILE, Dropped
from services.data.filter import FilterContext
from services.data.filters.risky_patterns import FLAGS
from services.data.making import NOT_DRAWN
from services.data.reading import read_examples
from services.inference import service as inference_service
from tests.bench.scripted import ScriptedInference, ScriptedJudge
from tests.data import files
from tests.data.files import dataset, part
from tests.data.scripted_ask import completed
from tests.fakes.scripted_engine import ScriptedEngine, scripted_engine  # noqa: F401  (a fixture)

ANSWER_TOKENS = 20
LIMIT = Sampling(max_tokens=ANSWER_TOKENS)


GRADED = json.dumps({"analysis": "So.", **dict.fromkeys(FLAGS, 0)})
GRADER = Writer(endpoint="base", sampling=LIMIT)
ASKED = pytest.mark.parametrize("who", ["builder", "filter"])


@dataclass
class Script:
    """Answers each prompt by its words, of one about a question by that; counts who was asked how often."""

    answer: Callable[[str], Completion] = lambda text: completed(f"<think>\nHm, {text}\n</think>\n\nSo: {text}")
    asked: Counter[str] = field(default_factory=Counter)
    wait: Callable[[str], object] = lambda text: None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, prompt: Prompt) -> Completion:
        text = prompt.messages[-1].content
        text = next(iter(re.findall(r"Question \d+\?", text)), text)
        with self._lock:
            self.asked[text] += 1
        self.wait(text)
        said = self.answer(text)
        said.id, said.seed = prompt.id, prompt.repeat
        return said


@pytest.fixture
def script(serve: Callable, clients: Clients) -> Script:
    """A data service, and endpoints `base` and `tuned` behind it that follow the script."""
    script = Script()
    serve("inference", ScriptedInference(script=script).register)
    serve("data", service.register)
    return script


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    return files.jsonl(tmp_path / "rows.jsonl", [{"id": n, "prompt": f"Question {n}?"} for n in range(40)])


def spec(rows: Path, count: int = 0, **more: object) -> DatasetSpec:
    made = dataset(part(rows, "default", name="p", count=count, writer=Writer(endpoint="base", sampling=LIMIT)))
    made.MergeFrom(DatasetSpec(**more))
    return made


def asked_by(who: str, rows: Path, **more: object) -> DatasetSpec:
    """All rows asked about once, by a builder or by a filter."""
    if who == "builder":
        return spec(rows, **more)
    graded = FilterSpec(filter="risky_patterns", options={"drop": "none"}, grader=GRADER)
    made = dataset(part(rows, "question", name="p"), filters=[graded])
    made.MergeFrom(DatasetSpec(**more))
    return made


def ask(clients: Clients, asked: DatasetSpec) -> Run:
    return rpc(clients.data.BuildDataset, BuildDatasetRequest(spec=asked))


def ended(clients: Clients, run: Run) -> Run:
    *_, last = rpc_stream(clients.runs("data").WatchRun, WatchRunRequest(id=run.id), timeout_s=60)
    return last


def built(clients: Clients, store: ObjectStore, asked: DatasetSpec) -> Dataset:
    run = ended(clients, ask(clients, asked))
    assert run.state == RunState.RUN_STATE_DONE, run.error
    return artefacts.find(store, "datasets", Dataset, run.result)


def drops(store: ObjectStore, made: Dataset) -> list[Drop]:
    return list(jsonl.unpack(Drop, store.read(f"datasets/{made.name}/{made.digest}/{FILE}")))


def test_every_row_is_asked_once_and_says_who_wrote_it(
    script: Script, questions: Path, clients: Clients, store: ObjectStore
) -> None:
    made = built(clients, store, spec(questions))
    assert script.asked == Counter({f"Question {n}?": 1 for n in range(40)})
    examples = list(read_examples(store, made))
    assert {each.id: each.answer for each in examples} == {f"p/{n}": f"So: Question {n}?" for n in range(40)}
    where = examples[0].provenance
    assert (where.writer, where.grader, where.builder) == ("base@digest-base", "", "default")
    assert (where.sampling.max_tokens, where.sampling.temperature) == (ANSWER_TOKENS, 0.6)
    assert len({each.provenance.sampling.seed for each in examples}) == 40
    assert (made.asked.rows, made.asked.completed, made.asked.questions) == (40, 40, 40)
    assert made.asked.prompt_tokens == 7 * 40 and made.asked.completion_tokens > 40


def test_the_same_bytes_whoever_answers_first(
    script: Script, questions: Path, clients: Clients, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = built(clients, store, spec(questions, count=20))
    chance = random.Random(1)
    script.wait = lambda text: time.sleep(chance.random() / 50)
    monkeypatch.setattr(asking, "AT_ONCE", 7)
    monkeypatch.setattr(asking, "WINDOW", 9)
    again = spec(questions, count=20)
    again.name = "again"
    assert built(clients, store, again).digest == first.digest


def test_no_more_is_asked_than_is_wanted(script: Script, questions: Path, clients: Clients, store: ObjectStore) -> None:
    few = built(clients, store, spec(questions, count=10))
    assert sum(script.asked.values()) == few.examples == 10
    assert [(step.step, step.read, step.kept) for step in few.funnel] == [
        ("read", 40, 40),
        ("draw", 40, 10),
        ("build", 10, 10),
    ]
    assert Counter(drop.reason for drop in drops(store, few)) == {NOT_DRAWN: 30}
    more = built(clients, store, spec(questions, count=20))
    assert {each.id for each in read_examples(store, few)} < {each.id for each in read_examples(store, more)}


def test_states_are_counted_and_replaced_by_others(
    script: Script, questions: Path, clients: Clients, store: ObjectStore
) -> None:
    bad = {
        "Question 3?": completed("No thought."),
        "Question 4?": completed("<think>\nHm.\n</think>\n\nSo", "length"),
        "Question 5?": completed("", "content_filter"),
        "Question 6?": Completion(error="HTTP 500"),
    }
    good = script.answer
    script.answer = lambda text: bad.get(text) or good(text)
    made = built(clients, store, spec(questions))
    assert made.examples == 36
    assert built(clients, store, spec(questions, count=36)).examples == 36  # others are asked in their place
    asked = made.asked
    assert (asked.rows, asked.completed) == (40, 36)
    assert (asked.refused, asked.bad_finish, asked.unparsed, asked.failed) == (1, 1, 1, 1)
    assert {(drop.step, drop.reason, drop.row) for drop in drops(store, made)} == {
        ("build", "no thinking", 4),
        ("build", "writer was cut", 5),
        ("build", "writer refused", 6),
        ("build", "writer failed", 7),
    }
    (counts,) = made.parts
    assert counts.read == counts.kept + sum(counts.dropped.values())


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


def test_whom_to_ask_is_checked_at_once(script: Script, questions: Path, clients: Clients) -> None:
    nobody = spec(questions)
    nobody.parts[0].writer.Clear()
    with pytest.raises(InvalidInput, match=r"part p, builder default, asks a writer; .*lrm endpoints"):
        ask(clients, nobody)
    unasked = dataset(part(questions, "nocot", writer=Writer(endpoint="base")))
    with pytest.raises(InvalidInput, match="builder nocot, asks no model"):
        ask(clients, unasked)
    with pytest.raises(InvalidInput, match="max_tokens and max_cost are 0 for no limit"):
        ask(clients, spec(questions, budget=Budget(max_tokens=-1)))


@pytest.mark.parametrize(
    ("replies", "outcome", "asked"),
    [
        (["seven", "7"], "7", 2),
        ([" ", "?", "7"], "7", 3),
        (["?", "?", "?", "7"], "unparsed", 3),
        (["0"], "", 1),
    ],
)
def test_what_is_not_understood_is_asked_again(replies: list[str], outcome: str, asked: int) -> None:
    sent: list[tuple[int, float]] = []

    def send(prompt: Prompt, sampling: Sampling) -> Completion:
        sent.append((prompt.repeat, sampling.temperature))
        return completed(replies[len(sent) - 1])

    def read(reply: str) -> str:
        if not reply.isdecimal():
            raise Dropped("grader not understood", "unparsed")
        if reply == "0":
            raise Dropped("below 7")
        return reply

    asker = Asker("grader", send, Sampling(), Asked())
    try:
        said = asker.understood([user("How many?")], Sampling(temperature=0), read)
    except Dropped as drop:
        said = drop.state
    assert (said, asker.asked.questions) == (outcome, asked)
    first = sent[0][0]
    assert sent == [(first, 0.0), (first + 1, 1.0), (first + 2, 1.0)][:asked]  # greedy, it would say the same again


def test_a_filter_asks_about_a_whole_block_at_once(script: Script, clients: Clients, settings: Settings) -> None:
    asking_ = Asking("filter x", Models(lambda: clients, Budget()), grader=Writer(endpoint="base"))
    context = FilterContext("x", {"word": "1?"}, settings, asking_)
    at_once = threading.Barrier(8, timeout=30)
    bad = {"3?": Completion(error="HTTP 500")}
    good = script.answer
    script.answer = lambda text: bad.get(text) or good(text)

    def work(example: Example, ask: Ask) -> str:
        at_once.wait()
        graded = ask.grader([user(example.prompt)])
        example.tags["graded"] = "yes"
        return "" if ask.options["word"] in graded.answer else "not that"

    examples = [Example(prompt=f"{n}?") for n in range(8)]
    reasons = ["not that", "", "not that", "grader failed", *["not that"] * 4]
    assert context.ask(work, examples) == reasons
    assert [bool(example.tags) for example in examples] == [n != 3 for n in range(8)]
    assert (context.asking.asked.rows, context.asking.asked.completed, context.asking.asked.failed) == (8, 7, 1)
    with pytest.raises(InvalidInput, match="filter x asks a writer"):
        context.ask(lambda example, ask: ask.writer([user("a")]).answer, examples)


def test_a_judge_whose_engine_is_dead_does_not_drop_everything(
    serve: Callable, clients: Clients, settings: Settings
) -> None:
    judge = ScriptedJudge()
    serve("judge", judge.register)
    models = Models(lambda: clients, Budget())
    context = FilterContext("x", {}, settings, Asking("filter x", models))
    examples = [Example(answer="I'm sorry.")] * 40

    def work(example: Example, ask: Ask) -> str:
        return ask.judge("refusal", ScoreItem(answer=example.answer)).invalid

    assert context.ask(work, examples) == [""] * 40
    judge.judges["refusal"] = lambda item: Verdict(id=item.id, invalid="reply cut: longer than 5 tokens")
    assert context.ask(work, examples) == ["reply cut: longer than 5 tokens"] * 40
    judge.judges["refusal"] = lambda item: Verdict(id=item.id, invalid="engine error: HTTP 500")
    with pytest.raises(Unavailable, match="failed 16 times in a row, last: engine error: HTTP 500"):
        context.ask(work, examples)
    models.close()


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
