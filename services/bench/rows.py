"""Reads the files of benchmarks and attacks: CSV, JSON lines and JSON, each also gzipped. Errors name file and line."""

import csv
import gzip
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrm_safety.errors import InvalidInput, NotFound

csv.field_size_limit(16 * 1024 * 1024)
_FORMATS = ("csv", "jsonl", "json")


@dataclass(frozen=True)
class Row:
    """One row with where it came from. Fields are text, whatever type the file gave them."""

    path: Path
    line: int  # 1-based; of the row's first line
    fields: Mapping[str, Any]

    def text(self, name: str) -> str:
        """A field that must be there and not be blank. Raises InvalidInput without quoting the row."""
        value = self.optional(name)
        if not value.strip():
            found = ", ".join(sorted(map(str, self.fields)))
            raise InvalidInput(
                f"{self.path}, line {self.line}: field {name!r} is missing or empty; the row has {found}"
            )
        return value

    def optional(self, name: str) -> str:
        value = self.fields.get(name)
        return "" if value is None else str(value)


def locate(path: str, data_dir: Path) -> Path:
    """A relative path in the working folder, then under LRM_DATA. Raises NotFound naming both places."""
    places = [Path(path).absolute()] if Path(path).is_absolute() else [Path(path).absolute(), data_dir / path]
    for place in places:
        if place.is_file():
            return place
    looked = " nor ".join(str(place) for place in places)
    raise NotFound(
        f"there is no file {looked}; set LRM_DATA to the folder of data files, or give the benchmark a `path`"
    )


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a file by its ending. Raises InvalidInput for a broken or empty one."""
    kind = path.name.removesuffix(".gz").rsplit(".", 1)[-1]
    if kind not in _FORMATS:
        raise InvalidInput(f"{path}: unknown ending; expected one of {', '.join(_FORMATS)}, also with .gz")
    text = _read_text(path)
    rows = {"csv": _csv_rows, "jsonl": _jsonl_rows, "json": _json_rows}[kind](path, text)
    empty = True
    for row in rows:
        empty = False
        yield row
    if empty:
        raise InvalidInput(f"{path}: there are no rows in it")


def _read_text(path: Path) -> str:
    try:
        data = gzip.decompress(path.read_bytes()) if path.name.endswith(".gz") else path.read_bytes()
        return data.decode("utf-8-sig")
    except (gzip.BadGzipFile, EOFError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"{path}: cannot be read ({type(error).__name__}); expected UTF-8 text, gzipped if .gz"
        ) from None


def _csv_rows(path: Path, text: str) -> Iterator[Row]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    before = 1
    try:
        for fields in reader:
            yield Row(path, before + 1, fields)
            before = reader.line_num
    except csv.Error as error:
        raise InvalidInput(f"{path}, line {before + 1}: the row that begins there is not CSV ({error})") from None


def _jsonl_rows(path: Path, text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield Row(path, number, _mapping(path, number, line))


def _json_rows(path: Path, text: str) -> Iterator[Row]:
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidInput(f"{path}, line {error.lineno}: not JSON ({error.msg})") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InvalidInput(f"{path}: expected a list of objects")
    yield from (Row(path, number, row) for number, row in enumerate(rows, 1))


def _mapping(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise InvalidInput(f"{path}, line {number}: not JSON ({error.msg})") from None
    if not isinstance(row, dict):
        raise InvalidInput(f"{path}, line {number}: expected an object, got {type(row).__name__}")
    return row
