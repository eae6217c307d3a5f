"""Spans of the understanding and of the key sentence: exact on small rows, in order on all of STAR-1."""

import gzip
import json
from pathlib import Path

import pytest

from lrm_safety import jsonl
from lrm_safety.chat import target_text
from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import Example
from services.data.builders import safekey_mix
from services.data.dropping import Dropped
from services.data.sentences import sentences
from services.data.source import Row
from tests.data.scripted_ask import scripted_ask

THINKING = (
    "Okay, so the user asks about Mr. Smith's 2.5 kg of it. They want steps.\n\n"
    "Hmm, that is dangerous. I must check my policies."
)
ROW = {"id": "7", "question": "Q", "response": f"<think>\n{THINKING}\n</think>\n\nNo.", "source": "AttaQ"}


def pieces(example: Example) -> dict[str, str]:
    response = target_text(example, "keep")
    return {span.name: response[span.start : span.end] for span in example.spans}


def by_grader(reply: str) -> Example:
    ask = scripted_ask(grader=lambda messages: reply, options={"annotator": "grader"})
    return safekey_mix.write(Row("a.json", 1, ROW), ask)


def test_sentences() -> None:
    found = [THINKING[sentence.start : sentence.end] for sentence in sentences(THINKING)]
    assert found == [
        "Okay, so the user asks about Mr. Smith's 2.5 kg of it.",
        "They want steps.",
        "Hmm, that is dangerous.",
        "I must check my policies.",
    ]
    assert sentences("") == []


def test_golden() -> None:
    example = safekey_mix.write(Row("a.json", 1, ROW), scripted_ask())
    assert jsonl.to_dict(example) == {
        "id": "7",
        "prompt": "Q",
        "thinking": THINKING,
        "answer": "No.",
        "tags": {"source": "AttaQ", "safety": "unsafe"},
        "spans": [{"name": "understanding", "end": 79}, {"name": "key", "start": 79, "end": 104}],
    }
    assert pieces(example) == {
        "understanding": f"<think>\n{THINKING[:71]}",
        "key": "\n\nHmm, that is dangerous.",
    }


def test_examples_of_a_dataset_and_the_harmless_ones() -> None:
    row = {"prompt": "Q", "thinking": "They ask for a name. Let me think.", "answer": "A.", "source": "benign_rewrite"}
    example = safekey_mix.write(Row("a", 1, row), scripted_ask())
    assert example.tags["safety"] == "safe"
    assert pieces(example)["key"] == " Let me think."
    mine = scripted_ask(options={"safe": "mine, AttaQ"})
    assert safekey_mix.write(Row("a", 1, ROW), mine).tags["safety"] == "safe"


def test_the_grader_finds_the_key_sentence() -> None:
    assert pieces(by_grader('{"key_sentence": 2}'))["key"] == " They want steps."
    assert pieces(by_grader('{"key_sentence": 4}'))["key"] == " I must check my policies."


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ('{"key_sentence": 0}', "no key sentence"),
        ('{"key_sentence": 1}', "no key sentence"),
        ('{"key_sentence": 5}', "no key sentence"),
        ('{"key_sentence": "2"}', "grader not understood"),
        ('{"key_sentence": true}', "grader not understood"),
        ("2", "grader not understood"),
    ],
)
def test_a_grader_that_finds_none(reply: str, reason: str) -> None:
    with pytest.raises(Dropped, match=f"^{reason}$"):
        by_grader(reply)


@pytest.mark.parametrize("thinking", ["", "One sentence alone.", "The user asks this. They ask that."])
def test_thinking_without_a_key_sentence(thinking: str) -> None:
    row = Row("a", 1, {"prompt": "Q", "thinking": thinking, "answer": "A."})
    with pytest.raises(Dropped, match=r"^no key sentence$"):
        safekey_mix.write(row, scripted_ask())


@pytest.mark.parametrize(("understanding", "key"), [(5, 5), (5, 4), (5, 10)])
def test_spans_are_in_order_and_inside_the_thinking(understanding: int, key: int) -> None:
    with pytest.raises(Dropped, match=r"^spans out of order$"):
        safekey_mix._spans(Example(thinking="Hm. Hmm.", answer="A."), understanding, key)


def test_an_unknown_annotator() -> None:
    with pytest.raises(InvalidInput, match="annotator is 'mine'; expected rules or grader"):
        safekey_mix.write(Row("a", 1, ROW), scripted_ask(options={"annotator": "mine"}))


def test_all_of_star1_has_spans(shared_data: Path) -> None:
    with gzip.open(shared_data / "star1" / "STAR-1.json.gz", "rt", encoding="utf-8") as file:
        rows = json.load(file)
    for number, row in enumerate(rows, start=1):
        example = safekey_mix.write(Row("STAR-1", number, row), scripted_ask())
        understanding, key = example.spans
        end_of_thinking = len("<think>\n") + len(example.thinking)
        assert 0 == understanding.start < understanding.end == key.start < key.end <= end_of_thinking
        is_inside = pieces(example)["key"].strip() in example.thinking
        assert is_inside, row["id"]
        assert example.tags["safety"] == "unsafe"
