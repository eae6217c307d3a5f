"""Filters that ask a judge or a grader: what stays, what no verdict does, and how often each pattern was there."""

import json
from collections.abc import Callable, Sequence

import pytest

from lrm_safety.clients import Clients
from lrm_safety.errors import Exhausted, InvalidInput
from lrm_safety.nouns import Budget, Completion, Dataset, Example, FilterSpec, Prompt, Step, Writer
from lrm_safety.settings import Settings
from services.data.asking import Models
from services.data.dropping import Dropped
from services.data.filter import FilterContext, Keep, prepare
from services.data.filters.risky_patterns import FLAGS, read_flags
from services.judge import service as judge
from services.judge.judge import find
from tests.bench.scripted import ScriptedInference
from tests.data.scripted_ask import completed

Prepare = Callable[..., tuple[Keep, FilterContext]]
Reply = Callable[[str], str | Completion]


@pytest.fixture
def grade(serve: Callable, settings: Settings, clients: Clients) -> Prepare:
    """grade(filter, reply, budget, **options): the filter, whose grader replies by the prompt that it sees."""

    replies: list[Reply] = []

    def script(prompt: Prompt) -> Completion:
        reply = replies[-1](prompt.messages[-1].content)
        said = completed(reply) if isinstance(reply, str) else reply
        said.id = prompt.id
        return said

    serve("inference", ScriptedInference(script=script).register)
    serve("judge", judge.register)

    def grade(filter: str, reply: Reply, budget: Budget | None = None, **options: str) -> tuple[Keep, FilterContext]:
        replies.append(reply)
        grader = Writer(endpoint="base", prompt_price=1.0, completion_price=10.0)
        spec = FilterSpec(filter=filter, options=options, grader=grader)
        return prepare(spec, settings, Models(lambda: clients, budget or Budget()))

    return grade


def answers(*texts: str) -> list[Example]:
    return [
        Example(id=f"part/{n}", prompt="How?", thinking=f"Thought {n}.", answer=text) for n, text in enumerate(texts)
    ]


def told(context: FilterContext) -> tuple[dict[str, int], dict[str, int]]:
    """What the funnel says was there before, and after."""
    manifest = Dataset(funnel=[Step(part="part", step="f")])
    context.findings.tell(manifest, "f")
    return dict(manifest.funnel[0].before), dict(manifest.funnel[0].after)


def test_judged_keeps_what_is_safe(grade: Prepare) -> None:
    def reply(prompt: str) -> str:
        level = next((level for word, level in (("good", "0"), ("mixed", "0.5"), ("bad", "1")) if word in prompt), "?")
        assert "Thought" in prompt
        return f"Analysis: so.\nJudgment: {level}"

    keep, context = grade("judged", reply)
    examples = answers("good", "mixed", "bad", "puzzling", "good")
    assert keep(examples) == ["", "unwanted verdict", "unwanted verdict", "no verdict", ""]
    labels = [example.provenance.verdicts[0].label for example in examples]
    assert labels == ["safe", "potentially_harmful", "harmful", "", "safe"]
    assert all(example.provenance.verdicts[0].judge_digest for example in examples)
    assert told(context) == (
        {"safe": 2, "potentially_harmful": 1, "harmful": 1, "no verdict": 1},
        {"safe": 2, "potentially_harmful": 0, "harmful": 0, "no verdict": 0},
    )
    assert (context.asking.asked.completed, context.asking.asked.unparsed) == (4, 1)


def test_judged_by_any_judge(grade: Prepare) -> None:
    keep, _ = grade("judged", lambda prompt: "?", judge="refusal", at_least="1")
    assert keep(answers("I'm sorry, I can't help with that.", "Sure, this is how.")) == ["", "unwanted verdict"]
    with pytest.raises(InvalidInput, match="no judge is named 'no_such'"):
        grade("judged", lambda prompt: "?", judge="no_such")


def test_an_engine_that_fails_is_no_verdict_of_the_judge(grade: Prepare) -> None:
    keep, context = grade("judged", lambda prompt: Completion(error="HTTP 500"))
    assert keep(answers("a")) == ["no verdict"]
    assert (context.asking.asked.failed, context.asking.asked.unparsed, context.asking.asked.questions) == (1, 0, 1)


def test_what_a_judge_takes_is_counted_and_in_the_budget(grade: Prepare) -> None:
    reply, most = "Analysis: so.\nJudgment: 0", find("reasoning_shield").max_tokens
    keep, context = grade("judged", lambda prompt: reply, Budget(max_tokens=most + 3 * 4, max_cost=1.0))
    examples = answers(*"abcd")
    keep(examples)
    asked = context.asking.asked
    assert (asked.questions, asked.prompt_tokens, asked.completion_tokens) == (4, 4 * 7, 4 * 4)
    assert asked.cost == pytest.approx(4 * (7 + 4 * 10) / 1e6)
    assert not any(each.provenance.verdicts[0].HasField("usage") for each in examples)
    with pytest.raises(Exhausted, match="16 tokens were written"):
        keep(answers("e"))


def test_a_verdict_from_memory_costs_nothing(grade: Prepare) -> None:
    remembered = completed("Judgment: 0")
    remembered.cached = True
    keep, context = grade("judged", lambda prompt: remembered)
    keep(answers("a"))
    asked = context.asking.asked
    assert (asked.questions, asked.cached, asked.completion_tokens, asked.cost) == (1, 1, 0, 0)


def test_a_judge_that_may_cost_too_much_is_not_asked(grade: Prepare) -> None:
    keep, context = grade("judged", lambda prompt: "Judgment: 0", Budget(max_cost=1e-6))
    with pytest.raises(Exhausted, match="max_cost 1e-06"):
        keep(answers("a"))
    by_rules, context = grade("judged", lambda prompt: "?", Budget(max_cost=1e-6), judge="refusal", at_least="1")
    assert by_rules(answers("I'm sorry, I can't help with that.")) == [""]
    assert context.asking.asked.questions == 0


def test_judged_wants_values_between_0_and_1(grade: Prepare) -> None:
    with pytest.raises(InvalidInput, match="at_most is '3'; expected a number from 0 to 1"):
        grade("judged", lambda prompt: "?", at_most="3")


def flagged(*flags: str, **more: object) -> str:
    return json.dumps({"analysis": "So.", **{flag: int(flag in flags) for flag in FLAGS}, **more})


def test_risky_patterns_go_and_are_counted(grade: Prepare) -> None:
    replies = {
        "calm": flagged(),
        "blind": flagged("lack_of_safety_awareness"),
        "wavers": flagged("weak_vacillation"),
        "turns": flagged("overthinking", "strong_vacillation", "weak_vacillation", "inconsistency"),
        "mad": flagged("lack_of_safety_awareness", "strong_vacillation"),
    }

    def reply(prompt: str) -> str:
        assert "<<<BEGIN QUERY" in prompt and "<think>\nThought" in prompt
        return next(said for word, said in replies.items() if word in prompt)

    keep, context = grade("risky_patterns", reply, drop="strong_vacillation, lack_of_safety_awareness")
    examples = answers("calm", "blind", "wavers", "turns", "mad", "calm")
    assert keep(examples) == ["", "lack of safety awareness", "", "strong vacillation", "flags contradict", ""]
    labels = [[verdict.label for verdict in example.provenance.verdicts] for example in examples]
    assert labels[2] == ["overthinking; weak_vacillation"] and labels[4] == [] and labels[5] == ["none"]
    before, after = told(context)
    assert before == {
        "none": 2,
        "lack_of_safety_awareness": 1,
        "overthinking": 2,
        "weak_vacillation": 2,
        "strong_vacillation": 1,
        "inconsistency": 1,
    }
    assert {label: n for label, n in after.items() if n} == {"none": 2, "overthinking": 1, "weak_vacillation": 1}


def test_every_pattern_goes_unless_told(grade: Prepare) -> None:
    keep, _ = grade("risky_patterns", lambda prompt: flagged("weak_vacillation"))
    assert keep(answers("a")) == ["weak vacillation"]


def test_patterns_may_be_counted_only(grade: Prepare) -> None:
    keep, context = grade("risky_patterns", lambda prompt: flagged("harmful_additions"), drop="none")
    assert keep(answers("a")) == [""]
    assert told(context)[1] == {"overthinking": 1, "harmful_additions": 1}
    with pytest.raises(InvalidInput, match="no flag weak; it has: lack_of_safety_awareness"):
        grade("risky_patterns", lambda prompt: "", drop="weak")


@pytest.mark.parametrize(
    ("reply", "flags"),
    [
        (flagged(), []),
        (flagged("overthinking"), ["overthinking"]),
        (flagged("inconsistency", "strong_vacillation"), ["overthinking", "strong_vacillation", "inconsistency"]),
        (f"```json\n{flagged('lack_of_safety_awareness')}\n```", ["lack_of_safety_awareness"]),
    ],
)
def test_flags_that_can_be_read(reply: str, flags: Sequence[str]) -> None:
    assert read_flags(reply) == flags


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("", "grader not understood"),
        (flagged(overthinking=2), "grader not understood"),
        (flagged(overthinking=True), "grader not understood"),
        (flagged(overthinking="1"), "grader not understood"),
        (flagged(more=0), "grader not understood"),
        (flagged(analysis=1), "grader not understood"),
        (flagged("lack_of_safety_awareness", "overthinking"), "flags contradict"),
        (flagged("lack_of_safety_awareness", "harmful_additions"), "flags contradict"),
    ],
)
def test_flags_that_cannot(reply: str, reason: str) -> None:
    with pytest.raises(Dropped, match=reason):
        read_flags(reply)


def test_a_filter_that_asks_needs_a_grader(settings: Settings) -> None:
    with pytest.raises(InvalidInput, match="filter risky_patterns asks a grader"):
        prepare(FilterSpec(filter="risky_patterns"), settings)
