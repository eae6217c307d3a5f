"""Splits a model's text into thinking and answer: the only code that knows think tags.

split("<think>2+2</think> 4")                 -> Split("2+2", "4", "closed")
split("2+2</think> 4", prompt_opened=True)    -> the same: the prompt already ended in <think>
"""

import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from lrm_safety.errors import InvalidInput

State = Literal["closed", "truncated", "absent"]


class Split(NamedTuple):
    thinking: str
    answer: str
    state: State  # closed: thinking ended; truncated: it never did; absent: there was none


class Tags(NamedTuple):
    """One spelling of "a thought begins" and "it ends, the answer follows"; some also wrap the answer."""

    opens: str
    closes: str
    answer_opens: str = ""
    answer_closes: str = ""


THINK = Tags("<think>", "</think>")  # DeepSeek-R1, Qwen3, QwQ
S1 = Tags("<|im_start|>think", "<|im_start|>answer")
STYLES: dict[str, tuple[Tags, ...]] = {
    "auto": (
        THINK,
        Tags("<thinking>", "</thinking>"),
        Tags("<seed:think>", "</seed:think>"),
        Tags("<|begin_of_thought|>", "<|end_of_thought|>", "<|begin_of_solution|>", "<|end_of_solution|>"),
        Tags("[THINK]", "[/THINK]"),  # Magistral
        S1,
    ),
    "tags": (THINK,),
    "opened": (THINK,),  # the server's template opens the thought and does not send the tag back
    "s1": (S1,),
    "none": (),
}

_FENCE = re.compile(r"^[ \t]*(?:```|~~~)", re.MULTILINE)


class _Mark(NamedTuple):
    start: int
    end: int
    opens: bool
    quoted: bool  # in a code fence or between backticks: talked about, not used


def split(text: str, *, style: str = "auto", prompt_opened: bool = False) -> Split:
    """Thinking, answer (both stripped) and whether the thinking ended. Total: any text gives a Split.

    `style` is a key of STYLES; `prompt_opened` says that the prompt ended in the opening tag, so the text starts
    inside the thought. The rules, in the order in which they bite:

    - a thought opens at a tag that starts the text or a line; text before it was shown to the reader, so it is answer;
    - a closing tag without an opening one ends a thought that the prompt opened;
    - the first closing tag ends the thought, as in engines' own parsers; one that an inner, balanced pair accounts
      for does not, nor does a quoted one (code fence, backticks) when an unquoted one exists;
    - thoughts that follow each other with nothing between are one thought; repeated tags count once;
    - after that all is answer, whatever tags it mentions.

    Raises InvalidInput for an unknown style only.
    """
    if style not in STYLES:
        raise InvalidInput(f"think style {style!r} is not known; expected one of: {', '.join(STYLES)}")
    prompt_opened = (prompt_opened and bool(STYLES[style])) or style == "opened"
    candidates = STYLES[style][:1] if prompt_opened else STYLES[style]
    tags, marks = _first_in_use(text, candidates, prompt_opened)
    if tags is None:
        return Split("", text.strip(), "absent")
    before = "" if prompt_opened or not marks[0].opens else text[: marks[0].start]
    thoughts, rest = _read(text, len(before), marks)
    state: State = "truncated" if rest is None else "closed"
    return Split(_joined(thoughts), _joined([before, _unwrapped(rest or "", tags)]), state)


def _first_in_use(text: str, candidates: Sequence[Tags], prompt_opened: bool) -> tuple[Tags | None, list[_Mark]]:
    """The spelling whose tag comes first, and its marks from there on; (None, []) when none is used."""
    fences = [match.start() for match in _FENCE.finditer(text)]
    chosen: Tags | None = None
    chosen_marks: list[_Mark] = []
    for tags in candidates:
        marks = _marks(text, tags, fences)
        if prompt_opened:
            return tags, marks
        used = next((i for i, mark in enumerate(marks) if not mark.quoted), None)
        if used is not None and (chosen is None or marks[used].start < chosen_marks[0].start):
            chosen, chosen_marks = tags, marks[used:]
    return chosen, chosen_marks


def _marks(text: str, tags: Tags, fences: Sequence[int]) -> list[_Mark]:
    """Where the tags stand, in order. An opening tag in the middle of a line is a mention and left out."""
    found: list[_Mark] = []
    fence = 0
    for match in re.finditer(f"({re.escape(tags.opens)})|{re.escape(tags.closes)}", text, re.IGNORECASE):
        start, end = match.span()
        while fence < len(fences) and fences[fence] < start:
            fence += 1
        quoted = fence % 2 == 1 or (text[start - 1 : start] == "`" == text[end : end + 1])
        opens = match.group(1) is not None
        if not opens or _leads(text, start, found[-1].end if found else 0):
            found.append(_Mark(start, end, opens, quoted))
    return found


def _leads(text: str, position: int, edge: int) -> bool:
    """Whether only blanks stand between `position` and the start of its line, or `edge` (the mark before it)."""
    while position > edge and text[position - 1] in " \t\r":
        position -= 1
    return position == edge or text[position - 1] == "\n"


def _read(text: str, begin: int, marks: Sequence[_Mark]) -> tuple[list[str], str | None]:
    """The thoughts from `begin` on, and what follows the last; None when the last never ends."""
    thoughts: list[str] = []
    i = 0
    while True:
        begin, i = _skip(text, begin, marks, i, opens=True)
        last = _closing(marks, i)
        if last is None:
            return [*thoughts, text[begin:]], None
        thoughts.append(text[begin : marks[last].start])
        begin, i = _skip(text, marks[last].end, marks, last + 1, opens=False)
        if i == len(marks) or not marks[i].opens or text[begin : marks[i].start].strip():
            return thoughts, text[begin:]


def _skip(text: str, begin: int, marks: Sequence[_Mark], i: int, *, opens: bool) -> tuple[int, int]:
    """Past marks of one kind that stand at `begin` with nothing but blanks before them."""
    while i < len(marks) and marks[i].opens == opens and not text[begin : marks[i].start].strip():
        begin, i = marks[i].end, i + 1
    return begin, i


def _closing(marks: Sequence[_Mark], first: int) -> int | None:
    """Index of the mark that ends a thought which is open before `marks[first]`."""
    closers = (i for i in range(first, len(marks)) if not marks[i].opens)
    fallback = next((i for i in closers if not marks[i].quoted), None)
    unquoted_only = fallback is not None
    depth = 1
    for i in range(first, len(marks)):
        if marks[i].opens:
            depth += not marks[i].quoted
        elif not (marks[i].quoted and unquoted_only):
            depth -= 1
            fallback = i if fallback is None else fallback
        if depth == 0:
            return i
    return fallback


def _unwrapped(answer: str, tags: Tags) -> str:
    answer = answer.strip()
    if tags.answer_opens:
        answer = answer.removeprefix(tags.answer_opens).removesuffix(tags.answer_closes)
    return answer


def _joined(pieces: Iterable[str]) -> str:
    return "\n\n".join(stripped for piece in pieces if (stripped := piece.strip()))
