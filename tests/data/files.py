"""Small data files of every format, as tests need them; and a run that only listens."""

import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow
import pyarrow.parquet
import zstandard
from google.protobuf.message import Message

from lrm_safety.nouns import DatasetSpec, FilterSpec, PartSpec, SourceSpec

ROWS = [
    {"question": "How do I kill a Python process?", "reply": {"text": "Use kill."}, "n": 1},
    {"question": 'He said "hi",\nthen left. Why?', "reply": {"text": "Nobody knows."}, "n": 2},
    {"question": "Wie heißt das? 何ですか", "reply": {"text": "So."}, "n": 3},
]
FIELDS = {"prompt": "question", "answer": "reply.text"}


def compress(path: Path, data: bytes) -> Path:
    """Writes data the way the path's ending says."""
    packed = {".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}.get(path.suffix, bytes)(data)
    path.write_bytes(packed)
    return path


def jsonl(path: Path, rows: list) -> Path:
    return compress(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())


def json_list(path: Path, rows: list) -> Path:
    return compress(path, json.dumps(rows).encode())


def parquet(path: Path, rows: list) -> Path:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def part(path: Path | str, builder: str = "as_written", source: str = "jsonl", **more) -> PartSpec:
    fields = more.pop("fields", {})
    return PartSpec(builder=builder, source=SourceSpec(source=source, path=str(path), fields=fields), **more)


def dataset(*parts: PartSpec, name: str = "mix", seed: int = 1, filters: list[FilterSpec] | None = None) -> DatasetSpec:
    return DatasetSpec(name=name, seed=seed, parts=parts, filters=filters or [])


@dataclass
class Listener:
    """The Follower of a build under test."""

    id: str = "dataset-test"
    heard: list[tuple[str, float, float]] = field(default_factory=list)
    committed: list[Message] = field(default_factory=list)

    def progress(self, stage: str, done: float, total: float, unit: str, metrics: object = None) -> None:
        self.heard.append((stage, done, total))

    def commit(self, rows: Sequence[Message]) -> None:
        self.committed += rows

    def parts(self, kind: type[Message]) -> Iterator[Message]:
        return iter(self.committed)

    def check_cancelled(self) -> None:
        pass
