"""Asking a model to judge: its prompt with the item's texts fenced as data, and the sampling it answers with.

A judged text is hostile until shown otherwise: it may hold orders to the judge, or a forged end of the quotation. So
each field stands between marker lines that carry a code made from the field itself, which its author cannot foresee,
and is cut to a length that leaves room for the reply.
"""

import hashlib
from functools import cache
from pathlib import Path
from string import Template

from lrm_safety import nouns
from lrm_safety.errors import InvalidInput, NotFound
from lrm_safety.nouns import Prompt, Sampling, ScoreItem
from services.judge.judge import ModelJudge

MAX_CHARACTERS = {"prompt": 8_000, "thinking": 24_000, "answer": 16_000, "target": 2_000}
_HEAD_SHARE = 0.7  # of a text that is cut; the rest comes from its end


def prompt_for(judge: ModelJudge, item: ScoreItem, prompt_id: str) -> Prompt:
    """One user turn: the rubric first, so that all items share it as a prefix, then the request, then the rest."""
    fields = {name: fence(name, getattr(item, name), item.prompt) for name in judge.reads}
    try:
        text = Template(_template(judge.template)).substitute(fields)
    except (KeyError, ValueError) as error:
        names = ", $".join(judge.reads)
        raise InvalidInput(
            f"{judge.template.name} cannot be filled ({error}); it may use ${names}, and $$ for a dollar"
        ) from None
    return Prompt(id=prompt_id, messages=[nouns.user(text)])


def sampling_for(judge: ModelJudge) -> Sampling:
    """Greedy: a verdict that changes when asked again is no verdict."""
    return Sampling(temperature=0.0, max_tokens=judge.max_tokens)


def fence(name: str, text: str, request: str) -> str:
    """The text between two marker lines. The request's own markers depend on it alone, so prefixes stay shared."""
    text = shortened(text, MAX_CHARACTERS[name])
    code = hashlib.sha256("\0".join((name, request, text)).encode()).hexdigest()[:16]
    return f"<<<BEGIN {name.upper()} {code}>>>\n{text}\n<<<END {name.upper()} {code}>>>"


def shortened(text: str, limit: int) -> str:
    """At most about `limit` characters: the head and the end of a longer text, and how much is left out between."""
    if len(text) <= limit:
        return text
    head = int(limit * _HEAD_SHARE)
    tail = limit - head
    return f"{text[:head]}\n[... {len(text) - limit} characters left out ...]\n{text[-tail:]}"


@cache
def _template(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFound(f"the judge's prompt {path.name} is missing beside its code") from None
