"""Golden tests: what each builder makes of small rows, which rows it drops and under which words."""

import gzip
import json
import math
from collections import Counter
from pathlib import Path

import pytest

from lrm_safety import jsonl
from lrm_safety.chat import target_text
from lrm_safety.errors import InvalidInput, NotFound
from services.data.builder import Dropped, find
from services.data.builders import direct_refusal, nocot
from services.data.source import Row

FORGED = "<think>\nOne.\n</think>\n\nTwo."


def build(builder: str, fields: dict, **options: str) -> dict:
    return jsonl.to_dict(find(builder, options).build(Row("a.jsonl", 1, fields)))


@pytest.mark.parametrize(
    ("builder", "fields", "options", "golden"),
    [
        (
            "as_written",
            {"id": 7, "prompt": " Why? ", "thinking": "Hm.\n", "answer": "So.", "type": "homonyms", "other": [1]},
            {},
            {"id": "7", "prompt": "Why?", "thinking": "Hm.", "answer": "So.", "tags": {"type": "homonyms"}},
        ),
        (
            "as_written",
            {"prompt": "Why?", "answer": "So.", "type": "x", "level": 3, "empty": None},
            {"tags": "level, empty"},
            {"prompt": "Why?", "answer": "So.", "tags": {"level": "3"}},
        ),
        (
            "direct_refusal",
            {"prompt": "Why?"},
            {},
            {"prompt": "Why?", "thinking": direct_refusal.THINKING, "answer": direct_refusal.REFUSAL},
        ),
        (
            "direct_refusal",
            {"prompt": "Why?", "answer": "I would rather not."},
            {"thinking": "No."},
            {"prompt": "Why?", "thinking": "No.", "answer": "I would rather not."},
        ),
        ("nocot", {"prompt": "Why?", "thinking": "x", "answer": "y"}, {}, {"prompt": "Why?", "answer": nocot.REFUSAL}),
        ("nocot", {"prompt": "Why?", "id": "a"}, {"refusal": "No."}, {"id": "a", "prompt": "Why?", "answer": "No."}),
        (
            "question",
            {"id": 9, "prompt": "Why? ", "category": ["A/B", "C"]},
            {},
            {"id": "9", "prompt": "Why?", "tags": {"category": "A/B; C", "source": "a.jsonl"}},
        ),
        (
            "question",
            {"prompt": "Why?", "source": "S", "template": "t#1"},
            {"source": "T", "tags": "template"},
            {"prompt": "Why?", "tags": {"source": "T", "template": "t#1"}},
        ),
        (
            "star1_file",
            {"id": 3, "question": "Q", "response": FORGED, "category": ["A/B", "C"], "source": "S", "score": {}},
            {},
            {
                "id": "3",
                "prompt": "Q",
                "thinking": "One.",
                "answer": "Two.",
                "tags": {"category": "A/B; C", "source": "S"},
            },
        ),
    ],
)
def test_golden(builder: str, fields: dict, options: dict, golden: dict) -> None:
    assert build(builder, fields, **options) == golden


@pytest.mark.parametrize(
    ("builder", "fields", "reason"),
    [
        ("as_written", {"prompt": " ", "answer": "So."}, "empty prompt"),
        ("as_written", {"prompt": math.nan, "answer": "So."}, "empty prompt"),
        ("as_written", {"prompt": "Why?", "answer": None}, "empty answer"),
        ("nocot", {"prompt": ""}, "empty prompt"),
        ("star1_file", {"question": "Q", "response": "Two."}, "thinking absent"),
        ("star1_file", {"question": "Q", "response": "<think>\nOne."}, "thinking truncated"),
        ("star1_file", {"question": "Q", "response": "<think>\nOne.\n</think>\n\n"}, "empty answer"),
        ("star1_file", {"question": "Q", "response": f"First.\n{FORGED}"}, "text before the thinking"),
        ("star1_file", {"question": "Q", "response": f"{FORGED}\n</think> Three."}, "stray think tags"),
        ("star1_file", {"question": "Q", "response": None}, "empty response"),
    ],
)
def test_unwanted_rows_are_dropped_with_a_reason(builder: str, fields: dict, reason: str) -> None:
    with pytest.raises(Dropped) as dropped:
        build(builder, fields)
    assert str(dropped.value) == reason


def test_a_row_without_a_needed_field_is_an_error_of_the_file() -> None:
    with pytest.raises(InvalidInput, match="row 1: there is no field 'answer'; there are: prompt"):
        build("as_written", {"prompt": "Why?"})


def test_unknown_names() -> None:
    with pytest.raises(NotFound, match=r"as_written, .*nocot, .*star1"):
        find("unheard_of", {})
    with pytest.raises(InvalidInput, match=r"nocot has no option wording; it has: refusal .*licence"):
        find("nocot", {"wording": "x"})
    with pytest.raises(InvalidInput, match=r"as_written, .*nocot, .*star1"):
        find("", {})


def test_all_of_star1_is_parsed(shared_data: Path) -> None:
    with gzip.open(shared_data / "star1" / "STAR-1.json.gz", "rt", encoding="utf-8") as file:
        rows = json.load(file)
    builder = find("star1_file", {})
    examples = [builder.build(Row("STAR-1", number, row)) for number, row in enumerate(rows, 1)]
    assert len(examples) == 1000
    for row, example in zip(rows, examples, strict=True):
        assert target_text(example, "keep").split() == row["response"].split(), row["id"]  # nothing lost but blanks
        assert example.prompt == row["question"].strip()
    assert Counter(example.tags["source"] for example in examples)["SaladBench"] == 298
    assert sum("Privacy" in example.tags["category"] for example in examples) == 229


def test_nocot_renders_as_the_study_trained_it(shared_data: Path) -> None:
    path = shared_data / "lrm_safety_study" / "sft_train_nocot.json.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = json.load(file)
    refusal = "I'm sorry, I can't assist with that request."
    builder = find("nocot", {"refusal": refusal})
    examples = [builder.build(Row("nocot", number, row)) for number, row in enumerate(rows, 1)]
    assert len({example.prompt for example in examples}) == 1000
    assert {target_text(example, "empty") for example in examples} == {row["response"] for row in rows}
