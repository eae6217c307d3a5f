"""One JSON document that is a list of objects; plain, .gz or .zst. Read whole: prefer JSON lines for big files."""

import json
from pathlib import Path

from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import SourceSpec
from lrm_safety.settings import Settings
from services.data.files import open_text
from services.data.source import BadRow, Numbered, Source, from_file


def open_source(spec: SourceSpec, settings: Settings) -> Source:
    return from_file(spec, settings, read)


def read(path: Path) -> Numbered:
    with open_text(path) as file:
        text = file.read()
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidInput(
            f"{path}, line {error.lineno}: it is not JSON ({error.msg}); is it JSON lines? Then `source: jsonl`"
        ) from None
    except RecursionError:
        raise InvalidInput(f"{path}: it is nested too deeply; expected a list of plain objects") from None
    if not isinstance(rows, list):
        raise InvalidInput(f"{path}: expected a list of objects, got {type(rows).__name__}")
    for number, row in enumerate(rows, start=1):
        if isinstance(row, dict):
            yield number, row
        else:
            what = f"expected an object, got {type(row).__name__}"
            yield number, BadRow(f"{path}, row {number}", "not an object", what)
