"""One part of a dataset: rows are read to disk, built or written, filtered block by block, and cut to the count.

Every row that does not stay is told to the drop file with its step and reason. A part that asks models and wants a
number asks in the order of the draw, and for no more rows than it still needs.
"""

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrm_safety import observe
from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import Asked, Drop, Example, PartCounts, PartSpec, Provenance, Step, Written
from services.data.asking import Ask, Asking, add
from services.data.builder import Builder
from services.data.dropping import DropFile, Dropped
from services.data.filter import Keep
from services.data.ledger import Follower
from services.data.selector import Select
from services.data.source import BadRow, PassedOver, Row, Source, each_row
from services.data.spool import Examples, SeededOrder, Spool

BLOCK = 512  # examples a filter is given at once
NOT_DRAWN, NOT_SELECTED = "not drawn", "not selected"
READ, BUILD, DRAW = "read", "build", "draw"
_LOOK_EVERY = 500  # rows between looks at progress and cancel
Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Part:
    spec: PartSpec
    source: Source
    builder: Builder
    asking: Asking
    select: Select | None

    @property
    def licence(self) -> str:
        return self.source.licence or self.spec.options.get("licence", "")

    @property
    def asked_count(self) -> int:
        """How many examples end the asking; 0 = all rows are made."""
        return self.spec.count if self.builder.write and not self.select else 0


@dataclass(frozen=True)
class Workshop:
    """What the parts of a build share."""

    run: Follower
    seed: int
    skips_bad_rows: bool
    folder: Path
    filters: Sequence[tuple[str, Keep]]
    drops: DropFile
    examples: Spool
    mix: SeededOrder


@dataclass(frozen=True)
class Made:
    chosen: Indices  # places in the workshop's spool
    counts: PartCounts
    funnel: Sequence[Step]
    asked: Asked
    bad_rows: int


def make_part(part: Part, shop: Workshop) -> Made:
    """Raises InvalidInput for rows that cannot be read and a part that is too small."""
    rows = Spool(shop.folder / "rows")
    making = _Making(part, shop, rows)
    try:
        making.read()
        making.make()
        chosen = making.choose()
    finally:
        rows.close()
    return making.made(chosen)


class _Funnel:
    """What became of the rows, step by step."""

    def __init__(self, part: str, steps: Sequence[str], drops: DropFile) -> None:
        self._part, self._drops = part, drops
        self.lost = 0  # rows that were worked on in vain
        self._dropped: dict[str, Counter[str]] = {step: Counter() for step in steps}

    def drop(self, drop: Drop) -> None:
        self._dropped[drop.step][drop.reason] += 1
        self.lost += drop.step not in (READ, DRAW)
        self._drops.add(drop)

    def dropped(self) -> Counter[str]:
        return sum(self._dropped.values(), Counter[str]())

    def steps(self, read: int) -> list[Step]:
        steps = []
        for step, dropped in self._dropped.items():
            kept = read - dropped.total()
            steps.append(Step(part=self._part, step=step, read=read, kept=kept, dropped=dropped))
            read = kept
        return steps


class _Making:
    def __init__(self, part: Part, shop: Workshop, rows: Spool) -> None:
        self._part, self._shop, self._rows = part, shop, rows
        names = [name for name, _ in shop.filters]
        draw = [DRAW] if part.spec.count else []
        early, late = (draw, []) if part.asked_count else ([], [part.spec.select] if part.select else draw)
        self._funnel = _Funnel(part.spec.name, [READ, *early, BUILD, *names, *late], shop.drops)
        self._draw = SeededOrder(f"{shop.seed}/{part.spec.name}")
        self._first = len(shop.examples)
        self._ids: set[bytes] = set()
        self._asked = Asked()
        self._done = self._bad_rows = self._read = 0

    def read(self) -> None:
        """All rows onto the disk, so that a broken one is known before anything is asked."""
        for row in each_row(self._part.source, self._part.spec.source.fields):
            if self._read % _LOOK_EVERY == 0:
                self._look(READ, self._read, 0)
            self._read += 1
            if isinstance(row, BadRow):
                self._skip(row, row.number)
            elif isinstance(row, PassedOver):
                self._drop(READ, row.reason, row)
            else:
                self._rows.add(json.dumps([row.source, row.number, row.fields], default=_storable).encode())

    def make(self) -> None:
        todo, wanted = self._order(), self._part.asked_count
        while len(todo) and not (wanted and self._kept >= wanted):
            taken = todo[: wanted - self._kept] if wanted else todo
            todo = todo[len(taken) :]
            outcomes = self._written(taken) if self._part.builder.write else self._built(taken)
            while block := list(itertools.islice(outcomes, BLOCK)):
                self._sieve(block)
                self._shop.run.check_cancelled()
        for index in todo:
            self._drop(DRAW, NOT_DRAWN, self._row(index))

    def choose(self) -> Indices:
        """Raises InvalidInput when there are fewer than the part's count."""
        spec, every = self._part.spec, np.arange(self._kept)
        if spec.count > self._kept:
            dropped = "".join(f", {n} dropped: {why}" for why, n in self._funnel.dropped().items())
            raise InvalidInput(
                f"part {spec.name} asks for {spec.count} examples; {self._part.source.name} gives {self._kept} "
                f"({self._read} rows read{dropped}); lower its count, or 0 for all"
            )
        chosen = every
        if spec.count and spec.count < self._kept:
            if self._part.select:
                view = Examples(self._shop.examples, self._first + every)
                chosen = np.array(self._part.select(view, spec.count, self._shop.seed), dtype=np.intp)
            else:
                chosen = self._draw.order()[: spec.count]
        step, reason = (spec.select, NOT_SELECTED) if self._part.select else (DRAW, NOT_DRAWN)
        for example in Examples(self._shop.examples, self._first + np.setdiff1d(every, chosen)):
            self._leave(step, reason, example)
        return self._first + np.sort(chosen)

    def made(self, chosen: Indices) -> Made:
        spec, read = self._part.spec, self._read
        dropped = self._funnel.dropped()
        observe.add("lrm_example_built_total", len(chosen), builder=self._part.builder.name)
        counts = PartCounts(name=spec.name, read=read, dropped=dropped, kept=len(chosen), licence=self._part.licence)
        return Made(chosen, counts, self._funnel.steps(read), self._asked, self._bad_rows)

    @property
    def _kept(self) -> int:
        return len(self._shop.examples) - self._first

    def _order(self) -> Indices:
        if not self._part.asked_count:
            return np.arange(len(self._rows))
        order = SeededOrder(f"{self._shop.seed}/{self._part.spec.name}")
        for index in range(len(self._rows)):
            order.add(str(self._row(index).number))
        return order.order()

    def _built(self, indices: Iterable[int]) -> Iterator[Example | None]:
        assert self._part.builder.build
        for index in indices:
            if self._done % _LOOK_EVERY == 0:
                self._look(BUILD, self._done, len(self._rows))
            self._done += 1
            row = self._row(index)
            yield self._example(row, partial(self._part.builder.build, row))

    def _written(self, indices: Iterable[int]) -> Iterator[Example | None]:
        pairs = self._part.asking.each(lambda index: (index, self._write(self._row(index))), indices)
        for index, written in pairs:
            self._done += 1
            self._tell_of_asking()
            yield self._example(self._row(index), partial(self._example_of, written))

    def _example(self, row: Row, make: Callable[[], Example]) -> Example | None:
        """None for a row that gives none, which is told."""
        try:
            return self._named(row, make())
        except Dropped as drop:
            self._drop(BUILD, str(drop), row)
        except BadRow as bad:
            self._skip(bad, row.number)
        return None

    def _example_of(self, written: Written | BadRow) -> Example:
        if isinstance(written, BadRow):
            raise written
        add(self._asked, written.asked)
        if written.dropped:
            raise Dropped(written.dropped)
        return written.example

    def _write(self, row: Row) -> Written | BadRow:
        """In a thread of its own."""
        written = Written(key=f"{self._part.spec.name}/{row.number}")

        def fill(ask: Ask) -> None:
            assert self._part.builder.write
            written.example.CopyFrom(self._part.builder.write(row, ask))
            if ask.asked.questions:
                written.example.provenance.sampling.MergeFrom(ask.writer.used)

        try:
            return self._part.asking.finished(written, self._part.spec.options, fill)
        except BadRow as bad:
            return bad

    def _named(self, row: Row, example: Example) -> Example:
        """With its id and where it comes from; what the builder said of it stays. Raises BadRow for an id again."""
        part = self._part
        example.id = f"{part.spec.name}/{example.id or row.number}"
        if (key := _key(example.id)) in self._ids:
            raise BadRow(row.place, "duplicate id", "an earlier row has the same id; mend it, or map another field")
        self._ids.add(key)
        where = Provenance(source=row.source, row=row.number, builder=part.builder.name)
        if part.builder.write:
            where.prompt_digest = part.builder.prompt_digest
            where.writer, where.grader = part.asking.writer.reference, part.asking.grader.reference
        example.provenance.MergeFrom(where)
        return example

    def _sieve(self, block: Sequence[Example | None]) -> None:
        """Through the filters, one after another, and onto the disk."""
        examples = [example for example in block if example is not None]
        for name, keep in self._shop.filters:
            reasons = zip(examples, keep(examples), strict=True)
            examples = []
            for example, reason in reasons:
                if reason:
                    self._leave(name, reason, example)
                else:
                    examples.append(example)
        for example in examples:
            self._draw.add(example.id)
            self._shop.mix.add(example.id)
            self._shop.examples.add(example.SerializeToString())

    def _skip(self, bad: BadRow, number: int) -> None:
        """Counts and tells a row that cannot be used, where the spec allows it. Raises it where it does not."""
        if not self._shop.skips_bad_rows:
            raise bad
        self._bad_rows += 1
        drop = Drop(id=f"{self._part.spec.name}/{number}", step=READ, reason=bad.reason, row=number, what=bad.what)
        drop.source = self._part.source.name
        self._funnel.drop(drop)

    def _drop(self, step: str, reason: str, row: Row | PassedOver) -> None:
        id_ = f"{self._part.spec.name}/{row.number}"
        self._funnel.drop(Drop(id=id_, step=step, reason=reason, source=row.source, row=row.number))

    def _leave(self, step: str, reason: str, example: Example) -> None:
        where = example.provenance
        self._funnel.drop(Drop(id=example.id, step=step, reason=reason, source=where.source, row=where.row))

    def _row(self, index: int) -> Row:
        return Row(*json.loads(self._rows.read(int(index))))

    def _look(self, stage: str, done: int, total: int) -> None:
        self._shop.run.check_cancelled()
        self._shop.run.progress(f"{stage} {self._part.spec.name}", done, total, "rows")

    def _tell_of_asking(self) -> None:
        """How far: of all rows, or of those that will be asked as far as is known."""
        wanted, asked = self._part.asked_count, self._asked
        total = min(len(self._rows), wanted + self._funnel.lost) if wanted else len(self._rows)
        metrics = {"questions": asked.questions, "tokens": asked.completion_tokens, "cost": asked.cost}
        stage = f"{BUILD} {self._part.spec.name}"
        self._shop.run.progress(stage, self._done, max(self._done, total), "rows", metrics)


def _key(id_: str) -> bytes:
    return hashlib.blake2b(id_.encode(), digest_size=8).digest()


def _storable(value: Any) -> Any:
    """Dates and decimals as text, as Row.text has them; bytes as what no field may be."""
    return [] if isinstance(value, bytes) else str(value)
