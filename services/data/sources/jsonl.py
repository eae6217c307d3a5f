"""JSON lines: one object a line; plain, .gz or .zst."""

import json
from pathlib import Path

from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import SourceSpec
from lrm_safety.settings import Settings
from services.data.files import open_text
from services.data.source import Numbered, Source, from_file


def open_source(spec: SourceSpec, settings: Settings) -> Source:
    return from_file(spec, settings, read)


def read(path: Path) -> Numbered:
    with open_text(path, newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                reason = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
                raise InvalidInput(
                    f"{path}, line {number}: it is not JSON ({reason}); mend or remove the line"
                ) from None
            if not isinstance(row, dict):
                raise InvalidInput(f"{path}, line {number}: expected an object, got {type(row).__name__}")
            yield number, row
