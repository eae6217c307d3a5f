"""Readers of the studies' own files: exact examples of small rows, and how both renderings train them."""

from pathlib import Path

import pytest

from lrm_safety import jsonl
from lrm_safety.chat import ChatTemplate, target_text
from lrm_safety.nouns import user
from services.data.builder import Dropped, find
from services.data.builders import direct_refusal
from services.data.source import BadRow, Row


def build(builder: str, fields: dict, **options: str) -> dict:
    made = find(builder, options).build
    assert made
    return jsonl.to_dict(made(Row("a.jsonl", 1, fields)))


@pytest.mark.parametrize(
    ("builder", "fields", "golden"),
    [
        (
            "direct_refusal",
            {"refusal": "Question: Why?\nBecause?\nAnswer: I won't say.\nAnswer: no."},
            {"prompt": "Why?\nBecause?", "thinking": direct_refusal.THINKING, "answer": "I won't say.\nAnswer: no."},
        ),
        (
            "safechain",
            {"instruction": " Why? ", "response": "Hm.\nSo it is.\n</think>\n\nNo.", "label": "vanilla_harmful"},
            {"prompt": "Why?", "thinking": "Hm.\nSo it is.", "answer": "No."},
        ),
        (
            "s1k",
            {"question": "1+1?", "thinking_trajectories": ["One.", " Two. "], "attempt": "2", "source_type": "sums"},
            {"prompt": "1+1?", "thinking": "One.\n Two.", "answer": "2", "tags": {"source_type": "sums"}},
        ),
        (
            "limo",
            {"question": "1+1?", "solution": " One and one. ", "answer": 2},
            {"prompt": "1+1?", "thinking": "One and one.", "answer": "2"},
        ),
    ],
)
def test_golden(builder: str, fields: dict, golden: dict) -> None:
    assert build(builder, fields) == golden


@pytest.mark.parametrize(
    ("builder", "fields", "reason"),
    [
        ("direct_refusal", {"refusal": "Question: Why?"}, "no question and answer"),
        ("direct_refusal", {"refusal": "Question: \nAnswer: no"}, "no question and answer"),
        ("safechain", {"instruction": "Why?", "response": "a</think>b", "label": "adversarial_harmful"}, "another"),
        ("safechain", {"instruction": "Why?", "response": "It goes on and on"}, "no closing think tag"),
        ("safechain", {"instruction": "Why?", "response": "Hm.</think> "}, "empty thinking or answer"),
        ("s1k", {"question": "Q", "thinking_trajectories": [" "], "attempt": "2"}, "empty thinking"),
        ("limo", {"question": "Q", "solution": "", "answer": "2"}, "empty solution"),
    ],
)
def test_rows_left_out(builder: str, fields: dict, reason: str) -> None:
    with pytest.raises(Dropped, match=reason):
        build(builder, fields)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "wrong type"),
        ("One.", "wrong type"),
        ([["One."]], "wrong type"),
        (["One.", "\ud83d"], "half a character"),
        (["\0"], "NUL character"),
    ],
)
def test_a_list_that_cannot_be_used_is_a_bad_row(value: object, reason: str) -> None:
    with pytest.raises(BadRow, match=r"a\.jsonl, row 1: field 'thinking_trajectories'") as error:
        build("s1k", {"question": "Q", "thinking_trajectories": value, "attempt": "2"})
    assert error.value.reason == reason


def test_star1_reads_a_category_that_is_a_list_as_strictly() -> None:
    fields = {"question": "Q", "response": "<think>\nHm.\n</think>\n\nNo."}
    assert build("star1_file", {**fields, "category": ["a", "b"]})["tags"] == {"category": "a; b"}
    with pytest.raises(BadRow, match="row 1: field 'category' holds half a character"):
        build("star1_file", {**fields, "category": ["a", "\ud83d"]})


def test_both_renderings() -> None:
    made = find("limo", {}).build
    assert made
    example = made(Row("a.jsonl", 1, {"question": "1+1?", "solution": "One and one.", "answer": "2"}))
    assert target_text(example, "keep") == "<think>\nOne and one.\n</think>\n\n2"
    s1 = ChatTemplate.choose(Path(), "s1")
    assert s1.target([user("1+1?")], target_text(example, "keep"))[1].startswith(
        "<|im_start|>think\nOne and one.\n<|im_start|>answer\nAnswer: 2"
    )
    example.answer = "Answer: 2"
    assert "<|im_start|>answer\nAnswer: 2" in s1.target([user("1+1?")], target_text(example, "keep"))[1]
