"""Datasets that models write: order, states, whom to ask, and answers that are not understood."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from lrm_safety.clients import Clients
from lrm_safety.errors import InvalidInput, Unavailable
from lrm_safety.nouns import (
    Asked,
    Budget,
    Completion,
    Example,
    Prompt,
    Sampling,
    ScoreItem,
    Verdict,
    Writer,
    user,
)
from lrm_safety.settings import Settings
from lrm_safety.store import ObjectStore
from services.data import asking
from services.data.asking import Ask, Asker, Asking, Models
from services.data.dropping import Dropped
from services.data.filter import FilterContext
from services.data.making import NOT_DRAWN
from services.data.reading import read_examples
from tests.bench.scripted import ScriptedJudge
from tests.data.files import dataset, part
from tests.data.scripted_ask import completed
from tests.data.scripted_build import (
    ANSWER_TOKENS,
    Script,
    ask,
    built,
    drops,
    spec,
)
from tests.fakes.scripted_engine import ScriptedEngine, scripted_engine  # noqa: F401  (a fixture)


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
