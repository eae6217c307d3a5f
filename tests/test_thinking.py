"""The splitter: a table of what models write, and properties over any text."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrm_safety.errors import InvalidInput
from lrm_safety.thinking import STYLES, Split, split

TABLE = [
    # (name, text, what comes out)
    ("plain", "<think>a</think>b", Split("a", "b", "closed")),
    ("trained form", "<think>\na\n</think>\n\nb", Split("a", "b", "closed")),
    ("no thinking", "b", Split("", "b", "absent")),
    ("empty text", "", Split("", "", "absent")),
    ("empty thought", "<think>\n\n</think>\n\nb", Split("", "b", "closed")),
    ("never closed", "<think>\na", Split("a", "", "truncated")),
    ("cut inside the closing tag", "<think>a</thi", Split("a</thi", "", "truncated")),
    ("closed, no answer", "<think>a</think>", Split("a", "", "closed")),
    ("no opening tag", "a</think>b", Split("a", "b", "closed")),
    ("tags doubled", "<think>\n<think>a</think>\n</think>b", Split("a", "b", "closed")),
    ("empty thought, then a real one", "<think></think>\n<think>a</think>b", Split("a", "b", "closed")),
    ("two thoughts in a row", "<think>a</think>\n\n<think>b</think>c", Split("a\n\nb", "c", "closed")),
    ("second thought cut", "<think>a</think>\n<think>b", Split("a\n\nb", "", "truncated")),
    ("nested", "<think>a\n<think>b</think>c</think>d", Split("a\n<think>b</think>c", "d", "closed")),
    ("nested, one closing tag", "<think>a\n<think>b</think>c", Split("a\n<think>b", "c", "closed")),
    ("shown before the thought", "Sure.\n<think>a</think>b", Split("a", "Sure.\n\nb", "closed")),
    ("shown before a cut thought", "Sure.\n<think>a", Split("a", "Sure.", "truncated")),
    ("opening tag mentioned", "write <think> first", Split("", "write <think> first", "absent")),
    ("tags mentioned in the answer", "<think>a</think>b </think> <think>", Split("a", "b </think> <think>", "closed")),
    ("later thought stays answer", "<think>a</think>b\n<think>c</think>d",
     Split("a", "b\n<think>c</think>d", "closed")),
    ("backticks in the thought", "<think>close with `</think>` now</think>b",
     Split("close with `</think>` now", "b", "closed")),
    ("fence in the thought", "<think>\n```\n</think>\n```\n</think>b", Split("```\n</think>\n```", "b", "closed")),
    ("fence in the answer", "b\n```\n<think>a</think>\n```", Split("", "b\n```\n<think>a</think>\n```", "absent")),
    ("only a fenced closing tag", "<think>\n```\na</think>b", Split("```\na", "b", "closed")),
    ("upper case", "<THINK>a</Think>b", Split("a", "b", "closed")),
    ("leading blanks", "\n  <think>a</think>b", Split("a", "b", "closed")),
    ("another spelling", "<thinking>a</thinking>b", Split("a", "b", "closed")),
    ("spellings mixed: the first counts", "<think>a <thinking> b</think>c", Split("a <thinking> b", "c", "closed")),
    ("wrapped answer",
     "<|begin_of_thought|>\na<|end_of_thought|>\n<|begin_of_solution|>\nb<|end_of_solution|>",
     Split("a", "b", "closed")),
    ("s1", "<|im_start|>think\na\n<|im_start|>answer\nb", Split("a", "b", "closed")),
    ("s1 cut", "<|im_start|>think\na", Split("a", "", "truncated")),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_auto(text: str, expected: Split) -> None:
    assert split(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a</think>b", Split("a", "b", "closed")),
        ("<think>a</think>b", Split("a", "b", "closed")),  # the model opened it once more
        ("a", Split("a", "", "truncated")),
        ("</think>b", Split("", "b", "closed")),
        ("", Split("", "", "truncated")),
        ("a `</think>` b</think>c", Split("a `</think>` b", "c", "closed")),
    ],
)
def test_prompt_opened(text: str, expected: Split) -> None:
    assert split(text, prompt_opened=True) == expected


def test_styles_know_only_their_tags() -> None:
    assert split("<think>a</think>b", style="none") == Split("", "<think>a</think>b", "absent")
    assert split("<thinking>a</thinking>b", style="tags").state == "absent"
    assert split("<think>a</think>b", style="s1").state == "absent"
    assert split("a\n<|im_start|>answer\nb", style="s1", prompt_opened=True) == Split("a", "b", "closed")


def test_opened_style_starts_inside_the_thought() -> None:
    assert split("a", style="opened") == Split("a", "", "truncated")
    assert split("<think>a</think>b", style="opened") == Split("a", "b", "closed")


def test_unknown_style_names_the_known() -> None:
    with pytest.raises(InvalidInput, match="auto, tags, opened, s1, none"):
        split("a", style="xml")


@pytest.mark.parametrize("piece", ["<think></think>", "<think>a\n", "x<think>", "`</think>`\n", "</think>b\n```\n"])
def test_degenerate_repetition_is_fast(piece: str) -> None:
    started = time.perf_counter()
    split(piece * 20_000)
    assert time.perf_counter() - started < 2


plain = st.text(st.characters(blacklist_characters="<>[]|`~", blacklist_categories=["Cs"]), max_size=60)
soup = st.lists(
    st.sampled_from(["<think>", "</think>", "<|im_start|>answer", "\n", " ", "```", "`", "a", "b c", "\u0130", "<thi"])
).map("".join)


@given(soup | st.text(), st.sampled_from(list(STYLES)), st.booleans())
def test_total_and_stripped(text: str, style: str, prompt_opened: bool) -> None:
    thinking, answer, state = split(text, style=style, prompt_opened=prompt_opened)
    assert (thinking, answer) == (thinking.strip(), answer.strip())
    assert state != "absent" or not thinking
    assert state != "absent" or answer == text.strip()


@given(soup)
def test_nothing_but_tags_is_lost(text: str) -> None:
    """Every letter of the text is in the thinking or in the answer, once."""
    both = "".join(split(text)[:2])
    assert sorted(c for c in both if c in "abc") == sorted(c for c in _untagged(text) if c in "abc")


@given(plain, plain)
def test_answer_is_never_lost(thought: str, answer: str) -> None:
    assert split(f"<think>{thought}</think>{answer}") == Split(thought.strip(), answer.strip(), "closed")
    assert split(f"{thought}</think>{answer}", prompt_opened=True)[:2] == (thought.strip(), answer.strip())
    assert split(answer.strip()) == Split("", answer.strip(), "absent")  # splitting an answer again changes nothing


@given(plain, plain, st.integers(0, 140))
def test_a_cut_text_never_shows_thought_as_answer(thought: str, answer: str, cut: int) -> None:
    text = f"<think>{thought}</think>{answer}"[:cut]
    got = split(text)
    if "</think>" in text:
        assert got.state == "closed"
        assert got.thinking == thought.strip()
        assert answer.strip().startswith(got.answer)
    elif text.startswith("<think>"):
        assert got.state == "truncated"
        assert got.answer == ""
    else:
        assert got == Split("", text, "absent")


def _untagged(text: str) -> str:
    """The text without the letters of those tags that were read as tags; the rest stays."""
    removed = text
    got = "".join(split(text)[:2])
    for tag in ("<think>", "</think>", "<|im_start|>answer"):
        removed = removed.replace(tag, "", text.count(tag) - got.count(tag))
    return removed
