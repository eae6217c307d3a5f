"""Reads what graders replied, strictly: what is not exactly in the form that was asked for is a counted drop."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lrm_safety.nouns import Verdict
from services.data.dropping import Dropped

_FENCED = re.compile(r"```(?:json)?[ \t]*\n(.*)\n[ \t]*```", re.DOTALL)


def read_json(reply: str) -> Any:
    """The one JSON value that a reply is, bare or as the whole of one code fence. Raises Dropped."""
    reply = reply.strip()
    fenced = _FENCED.fullmatch(reply)
    try:
        found = json.loads(fenced[1] if fenced else reply, object_pairs_hook=_once)
        json.dumps(found, ensure_ascii=False).encode()  # fails where an escape names half a character
    except (ValueError, RecursionError):
        raise unparsed() from None
    return found


def read_object(reply: str, names: Sequence[str]) -> dict[str, Any]:
    """A JSON object with exactly these keys. Raises Dropped."""
    found = read_json(reply)
    if not isinstance(found, dict) or sorted(found) != sorted(names):
        raise unparsed()
    return found


def best_marks(reply: str, best: Mapping[str, int], lowest: int = 0) -> dict[str, int]:
    """A JSON object with a whole number from `lowest` to the best for each. Raises Dropped, also below the best."""
    marks = read_object(reply, list(best))
    if not all(type(mark) is int and lowest <= mark <= best[name] for name, mark in marks.items()):
        raise unparsed()
    for name in best:
        if marks[name] < best[name]:
            raise Dropped(f"{name} below {best[name]}")
    return {name: marks[name] for name in best}


def as_verdicts(builder: str, marks: Mapping[str, int]) -> list[Verdict]:
    """The marks of a grader, for an example's provenance."""
    return [Verdict(judge=f"{builder}/{name}", label=str(mark), score=mark) for name, mark in marks.items()]


def unparsed() -> Dropped:
    return Dropped("grader not understood", "unparsed")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key comes twice")
    return dict(pairs)
