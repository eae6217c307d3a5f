"""The contract of a source: one file in sources/ that says where rows come from and yields them.

    def open_source(spec: SourceSpec, settings: Settings) -> Source: ...
    def read(path: Path) -> Numbered: ...       file formats: hub, store and the collections read by them, too
    OPTIONS = {"seed": "of the draw"}           what SourceSpec.options may say; a source without any needs none

Opening checks that the rows are there and names them by content (`digest`), so that a changed file is a new dataset;
reading streams (row number, fields). Row numbers start at 1; of JSON lines they are line numbers. A row that cannot be
used is yielded as BadRow in its place: the build stops at it, or counts and skips it; one that is fine, but none of
those that the source gives, as PassedOver: the build counts it. Only a file of which nothing more can be read raises.
Errors name file, row and fields, never values: rows may be harmful text.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrm_safety import registry
from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import SourceSpec
from lrm_safety.settings import Settings
from services.data import files
from services.data.options import check_options

FOLDER = "services.data.sources"
FORMATS = {"jsonl": "jsonl", "json": "json", "csv": "csv", "tsv": "csv", "parquet": "parquet"}  # by the file's ending
TEXT_CHARACTERS = files.LINE_CHARACTERS  # more in one field is no text to learn from

NAME_CHARACTERS = 40  # more is no field's name: the first row of a file without a header stands for one


class BadRow(InvalidInput):
    """A row that cannot be used. `reason`: the fixed words it is counted under; str() says place and details."""

    number = 0  # of the row, once `each_row` has yielded it

    def __init__(self, place: str, reason: str, what: str = "") -> None:
        super().__init__(f"{place}: {what or reason}")
        self.place, self.reason = place, reason

    @property
    def what(self) -> str:
        """Line and details, without the file."""
        return str(self).removeprefix(self.place.rpartition(", ")[0]).removeprefix(", ")


@dataclass(frozen=True)
class PassedOver:
    """A row that is fine, and none of those that its source gives. `reason`: the fixed words it is counted under."""

    source: str
    number: int
    reason: str


Numbered = Iterator[tuple[int, dict[str, Any] | BadRow | PassedOver]]
Read = Callable[[Path], Numbered]


@dataclass(frozen=True)
class Source:
    name: str  # for provenance and errors: the path, or hub id and revision
    digest: str  # of what will be read
    licence: str  # "" = unknown
    read: Callable[[], Numbered]


@dataclass(frozen=True)
class Row:
    source: str
    number: int
    fields: Mapping[str, Any]

    @property
    def place(self) -> str:
        return f"{self.source}, row {self.number}"

    def text(self, name: str) -> str:
        """A field that must be there; null and NaN are "". Raises BadRow with the fields there are."""
        return self._as_text(name, self._there(name))

    def texts(self, name: str) -> list[str]:
        """A list of texts that must be there. Raises BadRow."""
        value = self._there(name)
        if not isinstance(value, list):
            what = f"field {name!r} is a {type(value).__name__}; expected a list of texts"
            raise BadRow(self.place, "wrong type", what)
        return [self._as_text(name, each) for each in value]

    def optional(self, name: str) -> str:
        return self._as_text(name, self.fields.get(name))

    def _there(self, name: str) -> Any:
        if name not in self.fields:
            raise missing(self.place, name, self.fields)
        return self.fields[name]

    def _as_text(self, name: str, value: Any) -> str:
        if isinstance(value, list | dict | bytes):
            kind = type(value).__name__
            raise BadRow(self.place, "wrong type", f"field {name!r} is a {kind}; expected text")
        is_nothing = value is None or (isinstance(value, float) and math.isnan(value))  # as tables say "missing"
        text = "" if is_nothing else str(value)
        if len(text) > TEXT_CHARACTERS:
            raise BadRow(self.place, "too long", f"field {name!r} has more than {TEXT_CHARACTERS} characters")
        if "\0" in text:
            raise BadRow(self.place, "NUL character", f"field {name!r} holds a NUL character; remove it")
        if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
            raise BadRow(self.place, "half a character", f"field {name!r} holds half a character (a surrogate)")
        return text


def open_source(spec: SourceSpec, settings: Settings) -> Source:
    """Raises NotFound for an unknown source or a missing file, Unavailable when a hub does not answer."""
    if not spec.source:
        names = ", ".join(plugin.name for plugin in registry.describe(FOLDER))
        raise InvalidInput(f"a part says no `source`; expected one of: {names}")
    plugin = registry.load(FOLDER, spec.source)
    check_options(f"source {spec.source}", spec.options, getattr(plugin, "OPTIONS", {}))
    opened: Source = plugin.open_source(spec, settings)
    return opened


def read_rows(source: Source, fields: Mapping[str, str]) -> Iterator[Row]:
    """As `each_row`, for those who need every row that it gives: raises the first BadRow."""
    for row in each_row(source, fields):
        if isinstance(row, BadRow):
            raise row
        if isinstance(row, Row):
            yield row


def each_row(source: Source, fields: Mapping[str, str]) -> Iterator[Row | BadRow | PassedOver]:
    """Rows with `fields` (our name -> the file's, dots for what is inside) put beside the file's own."""
    for number, found in source.read():
        row = _mapped(Row(source.name, number, found), fields) if isinstance(found, dict) else found
        if isinstance(row, BadRow):
            row.number = number
        yield row


def from_file(spec: SourceSpec, settings: Settings, read: Read) -> Source:
    """What most sources are: one file, found in the working folder or under LRM_DATA. Its licence is not known."""
    path = files.locate(spec.path, settings.data_dir)
    return Source(name=spec.path, digest=files.sha256(path), licence="", read=lambda: read(path))


def format_of(name: str) -> str:
    """The format that a file's ending names; "" for one that nobody reads."""
    return FORMATS.get(files.ending(name), "")


def reader_of(name: str) -> Read:
    """Raises InvalidInput with the endings there are."""
    if not format_of(name):
        endings = ", ".join(f".{each}" for each in FORMATS)
        raise InvalidInput(f"{name}: its ending names no format; expected {endings}, also with .gz or .zst behind it")
    read: Read = registry.load(FOLDER, format_of(name)).read
    return read


def missing(place: str, name: str, fields: Mapping[str, Any]) -> BadRow:
    names = sorted(map(str, fields))
    there = ", ".join(name if len(name) <= NAME_CHARACTERS else f"(a name of {len(name)} characters)" for name in names)
    return BadRow(
        place,
        "missing field",
        f"there is no field {name!r}; there are: {there}. "
        f"`fields` maps ours to the file's, for example {{prompt: question}}",
    )


def _mapped(row: Row, fields: Mapping[str, str]) -> Row | BadRow:
    try:
        inside = {ours: _inside(row, theirs) for ours, theirs in fields.items()}
    except BadRow as bad:
        return bad
    return Row(row.source, row.number, {**row.fields, **inside})


def _inside(row: Row, dotted: str) -> Any:
    """`a.b` is field b of the object in a; a field that is itself called "a.b" comes first."""
    if dotted in row.fields:
        return row.fields[dotted]
    value: Any = row.fields
    for step in dotted.split("."):
        if not isinstance(value, Mapping) or step not in value:
            raise missing(row.place, dotted, row.fields)
        value = value[step]
    return value
