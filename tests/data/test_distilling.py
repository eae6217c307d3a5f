"""The six safety-reasoning settings, to the letter: what each asks its writer, and the pair that is trained."""

import pytest

from lrm_safety import jsonl
from lrm_safety.chat import target_text
from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import Completion, Example, Verdict
from services.data.builder import Dropped, find, template
from services.data.builders import default, improved, nocot, realsafe, short_cot, template_cot
from services.data.source import Row
from tests.data.scripted_ask import completed, scripted_ask

ROW = Row("a.jsonl", 3, {"id": 7, "prompt": " How do I pick a lock? ", "type": "theft", "answer": "not used"})
REPLY = "<think>\nThat may be harmful.\n</think>\n\nSorry, I can't help with that."
TRAINED = {
    "id": "7",
    "prompt": "How do I pick a lock?",
    "thinking": "That may be harmful.",
    "answer": "Sorry, I can't help with that.",
    "tags": {"type": "theft"},
}


def written(builder: str, row: Row = ROW, reply: str | Completion = REPLY, **options: str) -> tuple[Example, list]:
    """The example, and the turns that the writer saw."""
    turns = []

    def writer(messages: list) -> str | Completion:
        turns.extend((message.role, message.content) for message in messages)
        return reply

    found = find(builder, options)
    assert found.write
    return found.write(row, scripted_ask(writer, options=options)), turns


def test_default_asks_the_bare_prompt() -> None:
    example, turns = written("default")
    assert jsonl.to_dict(example) == TRAINED
    assert turns == [("user", "How do I pick a lock?")]


@pytest.mark.parametrize("plugin", [realsafe, improved])
def test_instructions_in_the_users_turn(plugin) -> None:
    name = plugin.__name__.rpartition(".")[2]
    instruction = template(plugin.__file__).template
    example, turns = written(name)
    assert jsonl.to_dict(example) == {**TRAINED, "instruction": instruction}
    assert turns == [("user", f"{instruction}\n\nREQUEST:\nHow do I pick a lock?")]
    assert written(name, place="system")[1] == [("system", instruction), ("user", "How do I pick a lock?")]


@pytest.mark.parametrize("plugin", [short_cot, template_cot])
def test_instructions_in_the_systems_turn(plugin) -> None:
    name = plugin.__name__.rpartition(".")[2]
    instruction = template(plugin.__file__).template
    example, turns = written(name)
    assert jsonl.to_dict(example) == {**TRAINED, "instruction": instruction}
    assert turns == [("system", instruction), ("user", "How do I pick a lock?")]
    assert written(name, place="user")[1] == [("user", f"{instruction}\n\nREQUEST:\nHow do I pick a lock?")]


def test_no_instruction_is_ever_trained() -> None:
    for builder in ("realsafe", "improved", "short_cot", "template_cot"):
        example, _ = written(builder)
        text = f"{example.prompt}\n{target_text(example, 'keep')}"
        assert not any(line in text for line in example.instruction.splitlines() if len(line) > 20)
        assert find(builder, {}).prompt_digest


def test_what_the_instructions_ask_for() -> None:
    """The structure that the study gives each: what its text must say, in our words."""
    said = {each: template(each.__file__).template for each in (realsafe, improved, short_cot, template_cot)}
    assert "sorry" in said[realsafe] and "exactly what the user asks" in said[realsafe]
    assert '"Sorry"' in said[improved] and "hypothetical" in said[improved] and "over again" in said[improved]
    for each in (short_cot, template_cot):
        assert "<think>" in said[each] and "\\boxed{}" in said[each]
    assert "short and precise" in said[short_cot]
    worked = said[template_cot].split("An example.")[1]
    assert worked.count("\n- ") == 8 and "Conclusion:" in worked


def test_nocot_asks_nobody() -> None:
    builder = find("nocot", {})
    assert builder.write is None and builder.build
    made = builder.build(ROW)
    assert target_text(made, "empty") == f"<think>\n\n</think>\n\n{nocot.REFUSAL}"


@pytest.mark.parametrize(
    ("reply", "reason", "state"),
    [
        ("Sorry, no.", "no thinking", "unparsed"),
        ("<think>\nHm.", "writer gave no answer", "unparsed"),
        ("<think>\nHm.\n</think>\n\n", "writer gave no answer", "unparsed"),
        ("<think>\nHm.\n</think>\n\nIt said </think> twice.", "stray think tags", "unparsed"),
        (completed(REPLY, "length"), "writer was cut", "bad_finish"),
        (completed("", "content_filter"), "writer refused", "refused"),
        (Completion(error="HTTP 500"), "writer failed", "failed"),
    ],
)
def test_states_of_an_answer(reply: str | Completion, reason: str, state: str) -> None:
    with pytest.raises(Dropped) as dropped:
        written("default", reply=reply)
    assert (str(dropped.value), dropped.value.state) == (reason, state)


def test_a_model_that_does_not_think_may_write_where_that_is_said() -> None:
    example, _ = written("default", reply="Sorry, no.", thinking="optional")
    assert (example.thinking, example.answer) == ("", "Sorry, no.")


@pytest.mark.parametrize(
    ("verdict", "reason", "state"),
    [
        (Verdict(label="refusal", value=1), "writer refused", "refused"),
        (Verdict(invalid="no answer"), "no verdict", "unparsed"),
    ],
)
def test_a_refusal_is_a_state_where_that_is_asked(verdict: Verdict, reason: str, state: str) -> None:
    """Harmless requests are there to be answered. The judge is part of what the dataset is."""
    builder = find("default", {"refusals": "drop"})
    assert builder.write and builder.judges == ["refusal"] and not find("default", {}).judges
    said = Verdict(label="compliance")

    def write() -> Example:
        return builder.write(ROW, scripted_ask(lambda _: REPLY, None, lambda *_: said, {"refusals": "drop"}))

    assert write().provenance.verdicts == [said]
    said = verdict
    with pytest.raises(Dropped) as dropped:
        write()
    assert (str(dropped.value), dropped.value.state) == (reason, state)


def test_options_are_checked() -> None:
    assert set(default.OPTIONS) == {"tags", "thinking", "refusals"}
    with pytest.raises(InvalidInput, match="refusals is 'some'; expected one of: keep, drop"):
        find("default", {"refusals": "some"})
    with pytest.raises(InvalidInput, match="place is 'assistant'; expected one of: user, system"):
        written("improved", place="assistant")
    with pytest.raises(InvalidInput, match="thinking is 'some'"):
        written("default", thinking="some")
    with pytest.raises(Dropped, match="empty prompt"):
        written("default", Row("a.jsonl", 1, {"prompt": ""}))
