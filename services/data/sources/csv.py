"""CSV with a header line and quoted fields, which may span lines; .tsv has tabs for commas; plain, .gz or .zst."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import SourceSpec
from lrm_safety.settings import Settings
from services.data.files import LINE_CHARACTERS, read_lines
from services.data.source import BadRow, Numbered, Source, from_file


def open_source(spec: SourceSpec, settings: Settings) -> Source:
    return from_file(spec, settings, read)


def read(path: Path) -> Numbered:
    """Bad quoting raises: nobody can say where the next row begins."""
    csv.field_size_limit(LINE_CHARACTERS)
    lines = _Lines(path)
    reader = csv.reader(lines, strict=True, delimiter="\t" if ".tsv" in path.suffixes else ",")
    try:
        names = next(reader, [])
        number = 0
        while True:
            lines.begin_row()
            values = next(reader, None)
            for bad in lines.bad:
                number += 1
                yield number, bad
            if values is None:
                return
            if values and not lines.is_torn:
                number += 1
                yield number, _row(names, values, f"{path}, line {lines.number}", number)
    except csv.Error as error:
        raise InvalidInput(f"{path}, line {lines.number}: it is not CSV ({error})") from None


def _row(names: list[str], values: list[str], place: str, number: int) -> dict[str, Any] | BadRow:
    if len(values) == len(names):
        return dict(zip(names, values, strict=True))
    what = (
        f"row {number} has {len(values)} fields, the header has {len(names)}; "
        f"quote fields that hold commas or line breaks"
    )
    return BadRow(place, "wrong number of fields", what)


class _Lines:
    """The lines of a file for csv.reader; what is no text is left out and remembered, so that its row is bad."""

    def __init__(self, path: Path) -> None:
        self._path, self._lines = path, read_lines(path, newline="")
        self.number = 0
        self.begin_row()

    def begin_row(self) -> None:
        self.bad: list[BadRow] = []
        self.is_torn = False  # a line in the middle of this row was bad
        self._is_inside = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        for number, line, flaw in self._lines:
            self.number = number
            if not flaw:
                self._is_inside = True
                return line
            what = f"it cannot be read: {flaw}; mend or remove the line"
            self.bad.append(BadRow(f"{self._path}, line {self.number}", flaw, what))
            self.is_torn = self.is_torn or self._is_inside
        raise StopIteration
