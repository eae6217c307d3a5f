"""Rows that make no example: the exception that says so, and the line on disk for each."""

import io
from pathlib import Path

import zstandard

from lrm_safety import jsonl
from lrm_safety.nouns import Drop

FILE = "dropped.jsonl.zst"


class Dropped(Exception):
    """A row that makes no example; str() is the reason it is counted under, in two or three fixed words.

    `state` says how asking a model ended: refused, bad_finish, unparsed or failed; empty when it answered in full, and
    the row is not wanted.
    """

    def __init__(self, reason: str, state: str = "") -> None:
        super().__init__(reason)
        self.state = state


class DropFile:
    """The drops of a dataset, as lines of a compressed file in the order they are told; without any, no file."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._file: io.TextIOWrapper | None = None

    def add(self, drop: Drop) -> None:
        if self._file is None:
            packed = zstandard.ZstdCompressor(level=3).stream_writer(self._path.open("wb"), closefd=True)
            self._file = io.TextIOWrapper(packed, encoding="utf-8")
        self._file.write(jsonl.dumps(drop) + "\n")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
