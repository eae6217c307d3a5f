"""JSON lines: one object a line; plain, .gz or .zst."""

import json
from pathlib import Path
from typing import Any

from lrm_safety.nouns import SourceSpec
from lrm_safety.settings import Settings
from services.data.files import read_lines
from services.data.source import BadRow, Numbered, Source, from_file


def open_source(spec: SourceSpec, settings: Settings) -> Source:
    return from_file(spec, settings, read)


def read(path: Path) -> Numbered:
    for number, line, flaw in read_lines(path, newline="\n"):
        place = f"{path}, line {number}"
        if flaw:
            yield number, BadRow(place, flaw, f"it cannot be read: {flaw}; mend or remove the line")
        elif line.strip():
            yield number, _row(line, place)


def _row(line: str, place: str) -> dict[str, Any] | BadRow:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
        return BadRow(place, "not JSON", f"it is not JSON ({reason}); mend or remove the line")
    if not isinstance(row, dict):
        return BadRow(place, "not an object", f"expected an object, got {type(row).__name__}")
    return row
