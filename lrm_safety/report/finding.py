"""Finding samples of one or two bench runs by what they are and by their text, a page at a time, by their indexes."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lrm_safety import jsonl
from lrm_safety.nouns import Record
from lrm_safety.report.index import SampleIndex
from lrm_safety.report.samples import joined, texts_of

PAGE = 20
MOST_MATCHES = 1_000  # of a search for text
MOST_SEARCH_S = 10.0
SIDES = ("baseline", "candidate")
FLIP = """CASE WHEN a.bad IS NULL OR b.bad IS NULL THEN 'unpaired' WHEN a.bad = b.bad THEN 'same'
          WHEN b.bad > a.bad THEN 'worse' ELSE 'better' END"""
ORDER = (
    "CASE flip WHEN 'worse' THEN 0 WHEN 'better' THEN 1 WHEN 'unpaired' THEN 2 ELSE 3 END, role, benchmark, attack, key"
)
FIELDS = ("label", "is_invalid", "is_truncated", "part", "line")
HEAD = ("key", "role", "benchmark", "attack")


@dataclass(frozen=True)
class Wanted:
    """What to show; an empty field asks for nothing. `label`: =<label> | invalid | truncated; `flip` also: changed."""

    benchmark: str = ""
    attack: str = ""
    label: str = ""
    flip: str = ""
    model: str = ""  # baseline | candidate: whose label and text
    text: str = ""


@dataclass(frozen=True)
class Found:
    """A page of samples as the page's script reads them; `note` says where the search ended early."""

    samples: list[dict[str, Any]]
    total: int
    every: int
    note: str = ""


@dataclass(frozen=True)
class _Place:
    key: str
    flip: str
    lies: dict[str, tuple[str, int]]  # side -> part, line


class Finder:
    """Over one run, or two beside each other by key."""

    def __init__(self, indexes: dict[str, SampleIndex], judges: dict[str, str]) -> None:
        """`indexes`: side -> index, the baseline first; `judges`: benchmark -> the judge whose verdict counts."""
        self.indexes, self._judges = indexes, judges

    def find(self, wanted: Wanted, start: int = 0) -> Found:
        """Those from `start` on, in the order: what changed first, then by role, benchmark, attack and key."""
        with self._joined() as connection:
            every = connection.execute("SELECT count(*) FROM found").fetchone()[0]
            where, values = self._where(wanted)
            if wanted.text:
                places, note = self._search(list(_places(connection, f"{where} ORDER BY {ORDER}", values)), wanted)
                return Found(self._samples(places[start : start + PAGE]), len(places), every, note)
            total = connection.execute(f"SELECT count(*) FROM found {where}", values).fetchone()[0]
            shown = list(_places(connection, f"{where} ORDER BY {ORDER} LIMIT {PAGE} OFFSET ?", [*values, start]))
            return Found(self._samples(shown), total, every)

    def labels(self) -> list[str]:
        """Of the deciding verdicts, as far as they are known."""
        with self._joined() as connection:
            columns = [f"SELECT DISTINCT label_{side} FROM found" for side in self.indexes]
            return sorted({label for column in columns for (label,) in connection.execute(column) if label})

    def flips(self) -> list[tuple[str, str, str, int]]:
        """benchmark, attack, flip, how many: in the order of roles."""
        with self._joined() as connection:
            return list(
                connection.execute(
                    "SELECT benchmark, attack, flip, count(*) FROM found GROUP BY role, benchmark, attack, flip"
                )
            )

    def settle(self) -> None:
        """Both runs are indexed to their ends: keeps which sample of one goes with which of the other, in a file."""
        if len(self.indexes) < 2:
            return
        with self._attached() as connection:
            if _kept(connection) == _stamp(connection):
                return
            with connection:
                connection.execute("BEGIN IMMEDIATE")  # of many that come at once one makes it
                stamp = _stamp(connection)
                if _kept(connection) != stamp:
                    self._keep(connection, stamp)

    def _keep(self, connection: sqlite3.Connection, stamp: str) -> None:
        rows = f"SELECT * FROM ({_view(list(self.indexes))}) ORDER BY {ORDER}"
        connection.execute("DROP TABLE IF EXISTS pairs.found")
        connection.execute(f"CREATE TABLE pairs.found AS {rows}")
        connection.execute(f"CREATE INDEX pairs.in_order ON found ({ORDER})")
        connection.execute("CREATE TABLE IF NOT EXISTS pairs.made (id TEXT)")
        connection.execute("DELETE FROM pairs.made")
        connection.execute("INSERT INTO pairs.made VALUES (?)", (stamp,))

    @contextmanager
    def _joined(self) -> Iterator[sqlite3.Connection]:
        """A connection with the view `found`: one row a sample, columns of each side by its name."""
        with self._attached() as connection:
            is_kept = len(self.indexes) > 1 and _kept(connection) == _stamp(connection)
            rows = "SELECT * FROM pairs.found" if is_kept else _view(list(self.indexes))
            connection.execute(f"CREATE TEMP VIEW found AS {rows}")
            yield connection

    @contextmanager
    def _attached(self) -> Iterator[sqlite3.Connection]:
        first, *others = self.indexes.values()
        with first.connected() as connection:
            for other in others:
                connection.execute("ATTACH ? AS other", (str(other.path),))
                pairs = first.path.with_name(f"{first.run}+{other.run}.sqlite")
                connection.execute("ATTACH ? AS pairs", (str(pairs),))
            yield connection

    def _where(self, wanted: Wanted) -> tuple[str, list[object]]:
        sides = [wanted.model] if wanted.model in self.indexes else list(self.indexes)
        rules: list[str] = []
        values: list[object] = []
        for field in ("benchmark", "attack"):
            if getattr(wanted, field):
                rules.append(f"{field} = ?")
                values.append(getattr(wanted, field))
        if wanted.flip:
            flips = ("worse", "better") if wanted.flip == "changed" else (wanted.flip,)
            rules.append(f"flip IN ({', '.join('?' * len(flips))})")
            values.extend(flips)
        if wanted.label:
            rules.append(f"({' OR '.join(_has_label(side, wanted.label) for side in sides)})")
            values.extend([wanted.label.removeprefix("=")] * len(sides) if wanted.label.startswith("=") else [])
        return (f"WHERE {' AND '.join(rules)}" if rules else ""), values

    def _search(self, places: list[_Place], wanted: Wanted) -> tuple[list[_Place], str]:
        """Reads every part that may hold one; where it stops early, the second value says so."""
        until = time.monotonic() + MOST_SEARCH_S
        needle = wanted.text.lower()
        hits: set[str] = set()
        for side in [wanted.model] if wanted.model in self.indexes else self.indexes:
            for part, asked in _by_part(places, side).items():
                if time.monotonic() > until:
                    return _of(places, hits), "The search took too long and ended early; narrow it with a filter."
                hits |= {record.key for record in self._matching(side, part, asked, needle)}
                if len(hits) >= MOST_MATCHES:
                    return _of(places, hits), f"The search ended after {MOST_MATCHES:,} matches; narrow it."
        return _of(places, hits), ""

    def _matching(self, side: str, part: str, asked: set[int], needle: str) -> Iterator[Record]:
        """Records of a part that say it. Most parts are seen not to hold it without reading a record."""
        lines = jsonl.lines(self.indexes[side].store.read(part))
        text = b"\n".join(lines).decode().lower()
        escaped = jsonl.escaped(needle)
        if escaped not in text:
            return
        for number, line in enumerate(text.split("\n")):
            if number in asked and escaped in line:
                record = jsonl.loads(Record, lines[number])
                if any(needle in said.lower() for said in (record.key, *texts_of(record))):
                    yield record

    def _samples(self, places: list[_Place]) -> list[dict[str, Any]]:
        return [
            joined(
                place.key,
                place.flip,
                {side: self.indexes[side].read(*lies) for side, lies in place.lies.items()},
                self._judges,
            )
            for place in places
        ]


def _stamp(connection: sqlite3.Connection) -> str:
    """What both indexes hold now: which files they are, and how many parts each has taken in."""
    files = [f"(SELECT id FROM {each}.made), (SELECT count(*) FROM {each}.parts)" for each in ("main", "other")]
    return " ".join(map(str, connection.execute(f"SELECT {', '.join(files)}").fetchone()))


def _kept(connection: sqlite3.Connection) -> str:
    is_there = connection.execute("SELECT count(*) FROM pairs.sqlite_master WHERE name = 'made'").fetchone()[0]
    row = connection.execute("SELECT id FROM pairs.made").fetchone() if is_there else None
    return row[0] if row else ""


def _view(sides: list[str]) -> str:
    first = ", ".join(f"a.{field} AS {field}_{sides[0]}" for field in FIELDS)
    if len(sides) == 1:
        return f"SELECT a.key, a.role, a.benchmark, a.attack, '' AS flip, {first} FROM main.samples a"
    head = ", ".join(f"coalesce(a.{field}, b.{field}) AS {field}" for field in HEAD)
    second = ", ".join(f"b.{field} AS {field}_{sides[1]}" for field in FIELDS)
    both = "main.samples a FULL JOIN other.samples b ON a.key = b.key"
    return f"SELECT {head}, {FLIP} AS flip, {first}, {second} FROM {both}"


def _has_label(side: str, wanted: str) -> str:
    if wanted.startswith("="):
        return f"label_{side} = ?"
    return f"is_truncated_{side}" if wanted == "truncated" else f"is_invalid_{side}"


def _places(connection: sqlite3.Connection, tail: str, values: list[object]) -> Iterator[_Place]:
    cursor = connection.execute(f"SELECT * FROM found {tail}", values)
    names = [column[0] for column in cursor.description]
    for row in cursor:
        fields = dict(zip(names, row, strict=True))
        lies = {side: (fields[f"part_{side}"], fields[f"line_{side}"]) for side in SIDES if fields.get(f"part_{side}")}
        yield _Place(fields["key"], fields["flip"], lies)


def _by_part(places: list[_Place], side: str) -> dict[str, set[int]]:
    parts: dict[str, set[int]] = {}
    for place in places:
        if side in place.lies:
            part, line = place.lies[side]
            parts.setdefault(part, set()).add(line)
    return parts


def _of(places: list[_Place], keys: set[str]) -> list[_Place]:
    return [place for place in places if place.key in keys]
