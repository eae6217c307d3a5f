"""The contract of a source: one file in sources/ that says where rows come from and yields them.

    def open_source(spec: SourceSpec, settings: Settings) -> Source: ...
    def read(path: Path) -> Iterator[tuple[int, dict[str, Any]]]: ...     file formats: the hub reads by them, too

Opening checks that the rows are there and names them by content (`digest`), so that a changed file is a new dataset;
reading streams (row number, fields). Row numbers start at 1; of JSON lines they are line numbers.
Errors name file, row and fields, never values: rows may be harmful text.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrm_safety import registry
from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import SourceSpec
from lrm_safety.settings import Settings
from services.data import files

FOLDER = "services.data.sources"
Numbered = Iterator[tuple[int, dict[str, Any]]]
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

    def text(self, name: str) -> str:
        """A field that must be there; null is "". Raises InvalidInput with the fields there are."""
        if name not in self.fields:
            raise missing(self.source, self.number, name, self.fields)
        return self._as_text(name, self.fields[name])

    def optional(self, name: str) -> str:
        return self._as_text(name, self.fields.get(name))

    def _as_text(self, name: str, value: Any) -> str:
        if isinstance(value, list | dict | bytes):
            kind = type(value).__name__
            raise InvalidInput(f"{self.source}, row {self.number}: field {name!r} is a {kind}; expected text")
        text = "" if value is None else str(value)
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise InvalidInput(f"{self.source}, row {self.number}: field {name!r} holds half a character (a surrogate)")
        return text


def open_source(spec: SourceSpec, settings: Settings) -> Source:
    """Raises NotFound for an unknown source or a missing file, Unavailable when a hub does not answer."""
    if not spec.source:
        names = ", ".join(plugin.name for plugin in registry.describe(FOLDER))
        raise InvalidInput(f"a part says no `source`; expected one of: {names}")
    opened: Source = registry.load(FOLDER, spec.source).open_source(spec, settings)
    return opened


def read_rows(source: Source, fields: Mapping[str, str]) -> Iterator[Row]:
    """Rows with `fields` (our name -> the file's, dots for what is inside) put beside the file's own.

    Raises InvalidInput for a field that is not there.
    """
    for number, found in source.read():
        mapped = {ours: _inside(source.name, number, found, theirs) for ours, theirs in fields.items()}
        yield Row(source.name, number, {**found, **mapped})


def from_file(spec: SourceSpec, settings: Settings, read: Read) -> Source:
    """What most sources are: one file, found in the working folder or under LRM_DATA. Its licence is not known."""
    path = files.locate(spec.path, settings.data_dir)
    return Source(name=spec.path, digest=files.sha256(path), licence="", read=lambda: read(path))


def missing(source: str, number: int, name: str, fields: Mapping[str, Any]) -> InvalidInput:
    there = ", ".join(sorted(map(str, fields)))
    return InvalidInput(
        f"{source}, row {number}: there is no field {name!r}; there are: {there}. "
        f"`fields` maps ours to the file's, for example {{prompt: question}}"
    )


def _inside(source: str, number: int, found: Mapping[str, Any], dotted: str) -> Any:
    """`a.b` is field b of the object in a; a field that is itself called "a.b" comes first."""
    if dotted in found:
        return found[dotted]
    value: Any = found
    for step in dotted.split("."):
        if not isinstance(value, Mapping) or step not in value:
            raise missing(source, number, dotted, found)
        value = value[step]
    return value
