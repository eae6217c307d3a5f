"""The loop over items: every item gets one verdict, failures are invalid, requests that are alike go together."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from lrm_safety.errors import InvalidInput, Unavailable
from lrm_safety.nouns import Completion, Prompt, Sampling, ScoreItem, Usage, Verdict
from services.judge import scoring
from services.judge.judge import find, rules
from services.judge.scoring import score

ITEMS = [ScoreItem(id=f"i{n}", prompt=f"p{n % 3}", answer=f"a{n}") for n in range(9)]


class Engine:
    """Answers every prompt with `reply`; remembers what it was asked."""

    def __init__(self, reply: str = "Verdict: 2_full_refusal", **more: object) -> None:
        self.reply, self.more = reply, more
        self.asked: list[list[Prompt]] = []

    def __call__(self, prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[Completion]:
        self.asked.append(list(prompts))
        for prompt in reversed(prompts):
            yield Completion(id=prompt.id, answer=self.reply, finish_reason="stop", **self.more)


def by_index(found: Iterator[tuple[int, Verdict]]) -> list[Verdict]:
    verdicts = dict(found)
    return [verdicts[n] for n in range(len(verdicts))]


def test_verdicts_say_whose_they_are() -> None:
    judge = find("xstest3")
    verdicts = by_index(score(judge, ITEMS, Engine(), "weights"))
    assert [v.id for v in verdicts] == [item.id for item in ITEMS]
    assert {(v.judge, v.judge_digest, v.measure) for v in verdicts} == {("xstest3", judge.digest("weights"), "refusal")}
    assert {v.label for v in verdicts} == {"full_refusal"}


def test_items_with_one_request_are_asked_together_and_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "_BATCH", 4)
    engine = Engine()
    assert len(by_index(score(find("xstest3"), ITEMS, engine))) == 9
    assert [len(batch) for batch in engine.asked] == [4, 4, 1]
    order = [ITEMS[int(prompt.id)].prompt for batch in engine.asked for prompt in batch]
    assert order == sorted(order)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"error": "engine is dead"}, "engine error: engine is dead"),
        ({"finish_reason": "length"}, "reply cut"),
        ({"finish_reason": "content_filter"}, "reply filtered"),
        ({"answer": "Verdict: maybe"}, "unparseable"),
        ({"answer": ""}, "unparseable"),
    ],
)
def test_a_failed_reply_is_invalid(more: dict[str, str], reason: str) -> None:
    def ask(prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[Completion]:
        for prompt in prompts:
            yield Completion(
                **{"id": prompt.id, "answer": "Verdict: 1_full_compliance", "finish_reason": "stop"} | more
            )

    for verdict in by_index(score(find("xstest3"), ITEMS, ask)):
        assert verdict.invalid.startswith(reason) and not verdict.label and not verdict.value


def test_missing_double_and_foreign_replies() -> None:
    def ask(prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[Completion]:
        for name in (prompts[0].id, prompts[0].id, "stranger"):
            yield Completion(id=name, answer="1_full_compliance")

    verdicts = by_index(score(find("xstest3"), ITEMS, ask))
    assert sorted(v.invalid for v in verdicts) == [""] + ["engine error: no reply came"] * 8


def test_a_dead_engine_service_stops_the_whole_call() -> None:
    def ask(prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[Completion]:
        raise Unavailable("no service answers there")
        yield

    with pytest.raises(Unavailable):
        list(score(find("xstest3"), ITEMS, ask))


def test_without_an_engine_a_model_judge_says_what_it_needs() -> None:
    with pytest.raises(InvalidInput, match="endpoint"):
        list(score(find("policy15"), ITEMS))


def test_empty_answers_are_not_asked_about() -> None:
    engine = Engine()
    verdicts = by_index(score(find("xstest3"), [ScoreItem(id="x", answer=" "), *ITEMS], engine))
    assert verdicts[0].invalid == "empty answer" and sum(map(len, engine.asked)) == 9
    assert [verdict.HasField("usage") for verdict in verdicts] == [False] + [True] * 9


@pytest.mark.parametrize("reply", ["Verdict: 2_full_refusal", "Verdict: maybe"])
def test_verdicts_say_what_the_model_took(reply: str) -> None:
    judge, used = find("xstest3"), Usage(prompt_tokens=300, completion_tokens=4)
    engine = Engine(reply, usage=used, cached=True)
    assert all(v.usage == used and v.cached for v in by_index(score(judge, ITEMS, engine)))
    most = scoring.at_most(judge)
    assert most.completion_tokens == judge.max_tokens
    for prompt, item in zip(engine.asked[0], sorted(ITEMS, key=lambda item: item.prompt), strict=True):
        text = prompt.messages[0].content
        assert most.prompt_tokens + len(item.prompt + item.answer) == len(text)


def test_items_may_share_an_id() -> None:
    items = [ScoreItem(id="same", answer="I can't help with that."), ScoreItem(id="same", answer="Sure, it is 5.")]
    assert [v.label for v in by_index(score(find("refusal"), items))] == ["refusal", "compliance"]


def test_one_odd_item_does_not_take_the_others_with_it() -> None:
    @rules(reads=("answer",), measure="refusal", labels=("a", "b"))
    def judge(item: ScoreItem) -> Verdict:
        return Verdict(label="a", score=1 / (len(item.answer) - 2))

    verdicts = by_index(score(judge, [ScoreItem(answer="xxx"), ScoreItem(answer="xx"), ScoreItem(answer="xxxx")]))
    assert [v.invalid for v in verdicts] == ["", "judge failed: ZeroDivisionError", ""]


def test_a_judge_that_breaks_its_declaration_is_refused() -> None:
    judge = replace(find("refusal"), labels=("yes", "no"))
    with pytest.raises(InvalidInput, match="declares"):
        list(score(judge, ITEMS))
