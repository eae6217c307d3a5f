"""Where each sample of a bench run lies in the store, and what it can be filtered by: a small SQLite file, no text.

It grows part by part while it is read, so the first rows of a long run can be shown at once; parts are immutable, so
what is in the file stays true. A file that another version wrote, or that does not fit the store, is made anew.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from lrm_safety import jsonl
from lrm_safety.errors import Corrupt
from lrm_safety.nouns import Record, ThinkState
from lrm_safety.report.facts import role_rank
from lrm_safety.report.samples import badness, deciding_verdict
from lrm_safety.store import ObjectStore

VERSION = 2
COMMIT_PARTS = 16  # the first commits are smaller, so that there is something to show at once
WAIT_S = 30.0  # for another viewer that writes the same file
TABLES = """
CREATE TABLE made (id TEXT);
INSERT INTO made VALUES (hex(randomblob(8)));
CREATE TABLE parts (part TEXT PRIMARY KEY);
CREATE TABLE samples (
    key TEXT PRIMARY KEY, role INTEGER, benchmark TEXT, attack TEXT, label TEXT, bad REAL,
    is_error INTEGER, is_invalid INTEGER, is_truncated INTEGER, part TEXT, line INTEGER
);
"""
PUT = """
INSERT INTO samples VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET
    label = excluded.label, bad = excluded.bad, is_error = 0, is_invalid = excluded.is_invalid,
    is_truncated = excluded.is_truncated, part = excluded.part, line = excluded.line
WHERE is_error AND NOT excluded.is_error
"""  # of one key the first record with a completion counts; only for want of one its first error


class SampleIndex:
    """The index of one run. Its reading methods may be called from any thread while `grow` goes on in another."""

    def __init__(self, store: ObjectStore, run: str, folder: Path, judges: dict[str, str]) -> None:
        """`folder` keeps the file; `judges`: benchmark -> the judge whose verdict counts."""
        self.store, self.run, self.path = store, run, folder / f"{run}.sqlite"
        self._judges = judges
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._prepare()

    def grow(self) -> None:
        """Takes in the parts it has not seen yet."""
        with self.connected() as connection:
            missing = self._missing(connection)
            size = 1
            while missing:
                with connection:
                    for part in missing[:size]:
                        self._take_in(connection, part)
                missing, size = missing[size:], min(2 * size, COMMIT_PARTS)

    def missing(self) -> int:
        """How many parts are in the store and not in here."""
        with self.connected() as connection:
            return len(self._missing(connection))

    def read(self, part: str, line: int) -> Record:
        """The record that lies there. Raises Corrupt when the store has other parts than the index knows."""
        lines = jsonl.lines(self.store.read(part))
        if line >= len(lines):
            raise Corrupt(f"{part} is not what the index at {self.path} says; delete that file and look again")
        return jsonl.loads(Record, lines[line])

    @contextmanager
    def connected(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, timeout=WAIT_S)) as connection:
            yield connection

    def _prepare(self) -> None:
        if not self._is_sound():
            for path in (self.path, *(self.path.with_name(self.path.name + end) for end in ("-wal", "-shm"))):
                path.unlink(missing_ok=True)
            with self.connected() as connection:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.executescript(f"BEGIN; {TABLES} PRAGMA user_version = {VERSION}; COMMIT;")

    def _is_sound(self) -> bool:
        with suppress(sqlite3.DatabaseError), self.connected() as connection:
            if connection.execute("PRAGMA user_version").fetchone()[0] == VERSION:
                known = {part for (part,) in connection.execute("SELECT part FROM parts")}
                return known <= set(self._parts())
        return False

    def _parts(self) -> list[str]:
        return list(self.store.list(f"runs/{self.run}/parts/"))

    def _missing(self, connection: sqlite3.Connection) -> list[str]:
        known = {part for (part,) in connection.execute("SELECT part FROM parts")}
        return [part for part in self._parts() if part not in known]

    def _take_in(self, connection: sqlite3.Connection, part: str) -> None:
        rows = (self._row(record, part, line) for line, record in enumerate(_records(self.store, part)))
        connection.executemany(PUT, rows)
        connection.execute("INSERT OR IGNORE INTO parts VALUES (?)", (part,))

    def _row(self, record: Record, part: str, line: int) -> tuple[object, ...]:
        verdict, completion = deciding_verdict(record, self._judges), record.completion
        is_invalid = bool(completion.error) or verdict is None or bool(verdict.invalid)
        is_cut = completion.finish_reason == "length" or completion.think_state == ThinkState.THINK_STATE_TRUNCATED
        label = verdict.label if verdict and not is_invalid else ""
        head = (record.key, role_rank(record.role), record.benchmark, record.attack, label)
        state = (badness(record, self._judges), bool(completion.error), is_invalid, is_cut)
        return (*head, *state, part, line)


def _records(store: ObjectStore, part: str) -> Iterator[Record]:
    return jsonl.unpack(Record, store.read(part))
