"""A published collection of harmful requests as a source: which field is the question, which rows count, the licence.

    COLLECTION = Collection(label="AttaQ", licence="MIT", published="hub:ibm-research/AttaQ", question="input")
    open_source = COLLECTION.open_source

`path` is the file that you have on disk, a folder of its files, or `hub:<id>/<file>`; the file may also come from
somewhere else: `fields: {question: its own name}`. Rows have `question`, `prompt` (the same) and `source` (the label).
Those that do not count are dropped when they are read, `of another kind`.
"""

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lrm_safety import registry
from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import SourceSpec
from lrm_safety.settings import Settings
from services.data import files
from services.data.source import FOLDER, FORMATS, BadRow, Numbered, PassedOver, Read, Row, Source, reader_of

# STAR-1 (arXiv 2504.01903) reads them in this order, and what an earlier one has counts against the later; the number
# is the length, in words, of the runs that no two questions of one collection may share.
ORDER = {
    "gptfuzz": 8,
    "simple_safety_tests": 8,
    "malicious_instruct": 8,
    "q_harm": 8,
    "tdc_red_teaming": 8,
    "malicious_instructions": 8,
    "harmful_q": 8,
    "hex_phi": 8,
    "harmbench": 8,
    "attaq": 7,
    "harmful_qa": 7,
    "safety_instructions": 7,
    "ultra_safety": 7,
    "alert": 7,
    "salad": 8,
    "pku_safe_rlhf": 6,
    "beavertails": 5,
    "wildjailbreak": 5,
}
HUB = "hub:"
_BARE = ("json", "csv", "txt")
OTHER_KIND = "of another kind"  # the reason of rows that do not count
_TEXT = "text"  # the field of files that hold nothing but texts


@dataclass(frozen=True)
class Collection:
    label: str  # how STAR-1 calls it
    licence: str
    published: str  # hub:<id>, or the address of its file or folder
    question: str = ""  # the field; "" = bare texts: a JSON list, a text a line, or CSV without a header
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # field -> the values of rows that count
    markers: tuple[str, ...] = ()  # cut out of the question

    def open_source(self, spec: SourceSpec, settings: Settings) -> Source:
        """Raises InvalidInput without a path, saying where the collection is published."""
        if not spec.path:
            raise InvalidInput(
                f"{self.label}: `path` is missing; fetch it from {self.published} and name the file or folder, or name "
                f"{HUB}<id>/<file> where a hub is reachable"
            )
        question = spec.fields.get("question", self.question)
        is_hub = spec.path.startswith(HUB)
        if is_hub and not question:
            raise InvalidInput(
                f"{self.label}: its files hold bare texts, which are read from disk; fetch them and name the folder, "
                f"or say where the question is: `fields: {{question: ...}}`"
            )
        inner = self._hub(spec, settings) if is_hub else self._disk(spec, settings, question)
        licence = inner.licence or self.licence
        return Source(inner.name, inner.digest, licence, lambda: self._rows(inner, question or _TEXT))

    def _hub(self, spec: SourceSpec, settings: Settings) -> Source:
        asked = SourceSpec(source="hub", path=spec.path.removeprefix(HUB), revision=spec.revision)
        source: Source = registry.load(FOLDER, "hub").open_source(asked, settings)
        return source

    def _disk(self, spec: SourceSpec, settings: Settings, question: str) -> Source:
        paths = files.locate_files(spec.path, settings.data_dir, FORMATS if question else _BARE)
        reads = [_read_texts if not question else reader_of(path.name) for path in paths]
        digest = hashlib.sha256("".join(map(files.sha256, paths)).encode()).hexdigest()
        return Source(spec.path, digest, "", lambda: _chained(paths, reads))

    def _rows(self, inner: Source, question: str) -> Numbered:
        for number, found in inner.read():
            if not isinstance(found, dict):
                yield number, found
                continue
            try:
                yield number, self._row(Row(inner.name, number, found), question)
            except BadRow as bad:
                yield number, bad

    def _row(self, row: Row, question: str) -> dict[str, Any] | PassedOver:
        if any(row.text(name).lower() not in values for name, values in self.where.items()):
            return PassedOver(row.source, row.number, OTHER_KIND)
        text = row.text(question)
        for marker in self.markers:
            text = text.replace(marker, "")
        text = text.strip()
        return {question: text, "question": text, "prompt": text, "source": self.label}


def _chained(paths: list[Path], reads: list[Read]) -> Numbered:
    """One file after the other, rows numbered through."""
    rows = (found for path, read in zip(paths, reads, strict=True) for _, found in read(path))
    yield from enumerate(rows, start=1)


def _read_texts(path: Path) -> Numbered:
    """Raises InvalidInput for a file that holds something else than texts."""
    for number, text in enumerate(_texts(path), start=1):
        yield number, {_TEXT: text}


def _texts(path: Path) -> Iterator[Any]:
    with files.open_text(path) as file:
        if files.ending(path.name) == "json":
            yield from _json_texts(path, file.read())
        elif files.ending(path.name) == "csv":
            yield from (values[0] for values in csv.reader(file) if values)
        else:
            yield from (line for line in file if line.strip())


def _json_texts(path: Path, text: str) -> list[Any]:
    """A list, or an object with the list under `instructions`."""
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidInput(f"{path}: it is not JSON; fetch it again") from None
    found = tree.get("instructions") if isinstance(tree, dict) else tree
    if not isinstance(found, list):
        raise InvalidInput(f"{path}: expected a JSON list of texts, or one under `instructions`")
    return found
