"""Rows of a file to score: JSON lines in, the same lines with a verdict out. Offline use only."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrm_safety import thinking
from lrm_safety.errors import Exhausted, InvalidInput, NotFound
from lrm_safety.nouns import ScoreItem, Verdict
from services.judge.judge import Judge

# Which of a row's keys may hold a field of the ScoreItem; the first one that is there counts.
KEYS: Mapping[str, tuple[str, ...]] = {
    "prompt": ("prompt",),
    "thinking": ("thinking", "response", "pred"),
    "answer": ("pred", "response", "answer"),
    "target": ("target", "gold"),
}
_WHOLE = ("response", "pred")  # a model's whole text: thinking and answer are split here


@dataclass(frozen=True)
class Row:
    line: str  # as it stands in the file
    item: ScoreItem
    absent: str  # why there is nothing to judge: a key that is null; else empty


def read(path: Path, judge: Judge) -> list[Row]:
    """Every row, in order; blank lines are skipped. Raises InvalidInput with the line's number, NotFound."""
    try:
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}") from None
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read ({error.strerror})") from None
    rows = [_row(f"{path}:{n}", line, judge) for n, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise InvalidInput(f"{path} holds no rows; expected JSON lines with {needed(judge)}")
    return rows


def needed(judge: Judge) -> str:
    """The keys that the judge needs, in words."""
    return " and ".join(" or ".join(KEYS[field]) for field in judge.reads)


def write(path: Path, rows: Sequence[Row], verdicts: Iterable[Verdict]) -> None:
    """Each row's own text with `verdict` as its last key; the file appears whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8", newline="\n") as file:
            for row, verdict in zip(rows, verdicts, strict=True):
                file.write(f'{row.line[:-1].rstrip()}, "verdict": {json.dumps(_shown(verdict))}}}\n')
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise Exhausted(f"{path} could not be written ({error.strerror}); nothing was left there") from None
    finally:
        part.unlink(missing_ok=True)


def _shown(verdict: Verdict) -> dict[str, Any]:
    if verdict.invalid:
        return {"label": None, "score": None, "invalid": verdict.invalid}
    return {"label": verdict.label, "score": verdict.score, "invalid": None}


def _row(place: str, line: bytes, judge: Judge) -> Row:
    try:
        text = line.decode("utf-8").strip()
        fields = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidInput(f"{place}: this is no JSON; expected one object a line, in UTF-8") from None
    if not isinstance(fields, dict):
        raise InvalidInput(f"{place}: a row is an object with keys, not a {type(fields).__name__}")
    if "verdict" in fields:
        raise InvalidInput(f"{place}: the row has a verdict already; rename that key, so that none is lost")
    keys = {field: _key(place, field, fields, judge) for field in judge.reads}
    item = ScoreItem(id=str(fields.get("id", "")), **{f: _text(place, f, key, fields[key]) for f, key in keys.items()})
    return Row(text, item, next((f"{key} is null" for key in keys.values() if fields[key] is None), ""))


def _key(place: str, field: str, fields: Mapping[str, Any], judge: Judge) -> str:
    found = next((key for key in KEYS[field] if key in fields), None)
    if found is None:
        has = ", ".join(sorted(fields)) or "no keys"
        raise InvalidInput(f"{place}: judge {judge.name} needs {needed(judge)} in each row; this one has {has}")
    return found


def _text(place: str, field: str, key: str, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float | None):
        raise InvalidInput(f"{place}: {key} is a {type(value).__name__}; expected text")
    text = ("" if value is None else str(value)).encode("utf-8", "replace").decode()  # lone surrogates go
    if key not in _WHOLE:
        return text
    parts = thinking.split(text)
    return parts.thinking if field == "thinking" else parts.answer
