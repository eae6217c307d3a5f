"""A DatasetSpec becomes a Dataset: source -> builder -> filters -> seeded draw -> mix -> files -> manifest.

`plan` opens and checks everything that was asked for, so mistakes are told at once and the run's identity covers every
input; `Plan.carry_out` does the work. Nothing is in the store under a dataset's name before it is whole.
"""

import hashlib
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lrm_safety import artefacts, jsonl, observe
from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import (
    Checkpoint,
    Dataset,
    DatasetSpec,
    Example,
    PartCounts,
    PartSpec,
    Provenance,
    reference,
)
from lrm_safety.settings import Settings
from lrm_safety.store import ObjectStore
from services.data import builder as builders
from services.data import filter as filters
from services.data.builder import Builder, Dropped
from services.data.filter import Keep
from services.data.source import Source, open_source, read_rows
from services.data.tokens import read_tokenizer, response_tokens

log = observe.logger(__name__)
KIND = "datasets"
NOT_DRAWN = "not drawn"
SHARD_EXAMPLES = 10_000
_LOOK_EVERY = 500  # rows between looks at progress and cancel
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class Follower(Protocol):
    """What a build tells its run."""

    id: str

    def progress(self, stage: str, done: float, total: float, unit: str) -> None: ...

    def check_cancelled(self) -> None: ...


@dataclass(frozen=True)
class Part:
    spec: PartSpec
    source: Source
    builder: Builder

    @property
    def licence(self) -> str:
        return self.source.licence or self.spec.options.get("licence", "")


@dataclass(frozen=True)
class Plan:
    """A build that can be carried out once: filters remember what they saw."""

    spec: DatasetSpec  # resolved: names written down, the tokenizer by digest
    parts: Sequence[Part]
    filters: Sequence[Keep]
    inputs: Sequence[str]  # digests of files, code and tokenizer
    tokenizer: Checkpoint | None

    def carry_out(self, run: Follower, store: ObjectStore, work_dir: Path) -> Dataset:
        """Raises InvalidInput for rows that cannot be read, a part that is too small, and an empty result."""
        examples: list[Example] = []
        counts: list[PartCounts] = []
        for part in self.parts:
            chosen, counted = build_part(part, self.filters, self.spec.seed, run)
            examples += chosen
            counts.append(counted)
        if not examples:
            raise InvalidInput(
                f"dataset {self.spec.name} would be empty: {_losses(counts)}; see its sources and filters"
            )
        mixed = in_seeded_order(examples, f"{self.spec.seed}/mix")
        manifest = Dataset(name=self.spec.name, spec=self.spec, examples=len(mixed), parts=counts)
        if self.tokenizer is not None:
            tokenizer = read_tokenizer(store, self.tokenizer)
            manifest.response_tokens.CopyFrom(
                response_tokens(
                    mixed, tokenizer, lambda done: run.progress("count tokens", done, len(mixed), "examples")
                )
            )
        run.check_cancelled()
        return publish(mixed, manifest, store, work_dir / run.id)


def plan(spec: DatasetSpec, settings: Settings, store: ObjectStore) -> Plan:
    """Checks and opens everything. Raises InvalidInput, NotFound or Unavailable, in words that name the part."""
    resolved = _resolved(spec)
    checkpoint = None
    if spec.tokenizer:
        checkpoint = artefacts.find(store, "checkpoints", Checkpoint, spec.tokenizer)
        resolved.tokenizer = reference(checkpoint.name, checkpoint.digest)
    parts = [_open(part, settings) for part in resolved.parts]
    prepared = [filters.prepare(each, settings) for each in resolved.filters]
    inputs = [digest for part in parts for digest in (part.source.digest, part.builder.digest)]
    inputs += [digest for _, digests in prepared for digest in digests]
    return Plan(resolved, parts, [keep for keep, _ in prepared], inputs, checkpoint)


def build_part(part: Part, keeps: Sequence[Keep], seed: int, run: Follower) -> tuple[list[Example], PartCounts]:
    """The part's examples, cut to its count, and what became of every row it read."""
    dropped: Counter[str] = Counter()
    kept: list[Example] = []
    read = 0
    for outcome in _examples(part, keeps):
        if read % _LOOK_EVERY == 0:
            run.check_cancelled()
            run.progress(f"build {part.spec.name}", read, 0, "rows")
        read += 1
        if isinstance(outcome, Example):
            kept.append(outcome)
        else:
            dropped[outcome] += 1
    if part.spec.count > len(kept):
        raise InvalidInput(
            f"part {part.spec.name} asks for {part.spec.count} examples; {part.source.name} gives {len(kept)} "
            f"({read} rows read{''.join(f', {n} dropped: {why}' for why, n in dropped.items())}); lower its count, "
            f"or 0 for all"
        )
    _make_ids_unique(kept)
    chosen = in_seeded_order(kept, f"{seed}/{part.spec.name}")[: part.spec.count or None]
    if len(chosen) < len(kept):
        dropped[NOT_DRAWN] = len(kept) - len(chosen)
    run.progress(f"build {part.spec.name}", read, read, "rows")
    observe.add("lrm_example_built_total", len(chosen), builder=part.builder.name)
    return chosen, PartCounts(
        name=part.spec.name, read=read, dropped=dict(dropped), kept=len(chosen), licence=part.licence
    )


def in_seeded_order(examples: Iterable[Example], seed: str) -> list[Example]:
    """Sorted by the hash of seed and id: chance without state. The first n of it are a draw without replacement, and
    a greater n only adds to a smaller one."""
    return sorted(examples, key=lambda example: hashlib.sha256(f"{seed}/{example.id}".encode()).digest())


def publish(examples: Sequence[Example], manifest: Dataset, store: ObjectStore, folder: Path) -> Dataset:
    """Writes the examples as shards into an empty `folder`, which is gone afterwards, and announces the dataset."""
    shutil.rmtree(folder, ignore_errors=True)  # what a killed build left
    folder.mkdir(parents=True)
    try:
        for shard, start in enumerate(range(0, len(examples), SHARD_EXAMPLES)):
            data = jsonl.pack(examples[start : start + SHARD_EXAMPLES])
            (folder / f"examples-{shard:05d}.jsonl.zst").write_bytes(data)
        published = artefacts.publish(store, KIND, folder, manifest)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    log.info("dataset_published", dataset=published.name, digest=published.digest, examples=published.examples)
    return published


def _examples(part: Part, keeps: Sequence[Keep]) -> Iterator[Example | str]:
    """One outcome a row: the Example, or the reason why there is none."""
    for row in read_rows(part.source, part.spec.source.fields):
        try:
            example = part.builder.build(row)
        except Dropped as drop:
            yield str(drop)
            continue
        example.id = f"{part.spec.name}/{example.id or row.number}"
        example.provenance.CopyFrom(Provenance(source=row.source, row=row.number, builder=part.builder.name))
        yield next((reason for keep in keeps if (reason := keep(example))), example)


def _make_ids_unique(examples: Sequence[Example]) -> None:
    """Files may repeat an id; the part's name before it already keeps parts apart."""
    seen: set[str] = set()
    for example in examples:
        if example.id in seen:
            example.id = f"{example.id}@{example.provenance.row}"
        seen.add(example.id)


def _resolved(spec: DatasetSpec) -> DatasetSpec:
    done = DatasetSpec()
    done.CopyFrom(spec)
    if not _NAME.fullmatch(spec.name):
        raise InvalidInput(f"dataset name {spec.name!r}: expected 1 to 63 letters, digits, dots, dashes, underscores")
    if not spec.parts:
        raise InvalidInput(f"dataset {spec.name} has no `parts`; expected at least one, with a builder and a source")
    for number, part in enumerate(done.parts):
        part.name = part.name or f"{part.builder}_{number}"
        if part.count < 0:
            raise InvalidInput(f"part {part.name}: count is {part.count}; expected 0 for all, or a number above it")
    doubled = [name for name, n in Counter(part.name for part in done.parts).items() if n > 1]
    if doubled:
        raise InvalidInput(f"dataset {spec.name} has more than one part {', '.join(doubled)}; names are unique")
    return done


def _open(part: PartSpec, settings: Settings) -> Part:
    return Part(part, open_source(part.source, settings), builders.find(part.builder, part.options))


def _losses(counts: Sequence[PartCounts]) -> str:
    return "; ".join(
        f"part {each.name}: {each.read} rows read" + "".join(f", {n} {why}" for why, n in each.dropped.items())
        for each in counts
    )
