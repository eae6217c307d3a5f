"""A DatasetSpec becomes a Dataset: source -> builder -> filters -> seeded draw -> mix -> files -> manifest.

`plan` opens and checks everything that was asked for, so mistakes are told at once and the run's identity covers every
input; `Plan.carry_out` does the work, part by part (making.py). Nothing is in the store under a dataset's name before
it is whole. Memory does not grow with the texts: see spool.py.
"""

import re
import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lrm_safety import artefacts, jsonl, observe
from lrm_safety.clients import Clients
from lrm_safety.errors import Conflict, InvalidInput, LrmError
from lrm_safety.nouns import Checkpoint, Dataset, DatasetSpec, Example, PartCounts, PartSpec, reference
from lrm_safety.settings import Settings
from lrm_safety.store import ObjectStore
from services.data import budget, selector, survey
from services.data import builder as builders
from services.data import filter as filters
from services.data.asking import SEEDS, Asking, Models, add
from services.data.benchmarks import comparisons
from services.data.dropping import DropFile
from services.data.filter import FilterContext, Keep
from services.data.ledger import Follower, Ledger
from services.data.making import Made, Part, Workshop, make_part
from services.data.reading import KIND
from services.data.source import open_source
from services.data.spool import Examples, SeededOrder, Spool
from services.data.tokens import read_tokenizer

log = observe.logger(__name__)
SHARD_EXAMPLES = 10_000
FAIL, SKIP = "fail", "skip"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True)
class Plan:
    """A build that can be carried out once: filters remember what they saw."""

    spec: DatasetSpec  # resolved: names written down, the tokenizer by digest
    parts: Sequence[Part]
    filters: Sequence[tuple[str, Keep, FilterContext]]
    inputs: Sequence[str]  # digests of files, code, models and tokenizer
    tokenizer: Checkpoint | None
    models: Models

    def carry_out(self, run: Follower, store: ObjectStore, work_dir: Path) -> Dataset:
        """Raises InvalidInput for rows that cannot be read, a part that is too small, and an empty result; Exhausted
        past the budget, and Unavailable when a model does not answer: what is finished stays.
        """
        folder = work_dir / run.id
        shutil.rmtree(folder, ignore_errors=True)  # what a killed build left
        (folder / "out").mkdir(parents=True)
        try:
            return self._carry_out(run, store, folder)
        finally:
            self.models.close()
            shutil.rmtree(folder, ignore_errors=True)

    def _carry_out(self, run: Follower, store: ObjectStore, folder: Path) -> Dataset:
        with ExitStack() as stack:
            ledger = stack.enter_context(closing(Ledger(run, folder / "before")))
            shop = self._workshop(run, folder, stack)
            made = self._make(shop, ledger)
            counts = [each.counts for each in made]
            chosen = np.concatenate([each.chosen for each in made])
            if not len(chosen):
                raise InvalidInput(
                    f"dataset {self.spec.name} would be empty: {_losses(counts)}; see its sources and filters"
                )
            shop.drops.close()
            mixed = Examples(shop.examples, shop.mix.order(chosen))
            manifest = self._manifest(mixed, made, run, store)
            run.check_cancelled()
            return publish(mixed, manifest, store, folder / "out")

    def _workshop(self, run: Follower, folder: Path, stack: ExitStack) -> Workshop:
        return Workshop(
            run=run,
            seed=self.spec.seed,
            skips_bad_rows=self.spec.on_bad_row == SKIP,
            folder=folder,
            filters=[(name, keep) for name, keep, _ in self.filters],
            drops=stack.enter_context(closing(DropFile(folder / "out"))),
            examples=stack.enter_context(closing(Spool(folder / "examples"))),
            mix=SeededOrder(f"{self.spec.seed}/mix"),
        )

    def _make(self, shop: Workshop, ledger: Ledger) -> list[Made]:
        def look() -> None:
            shop.run.check_cancelled()
            ledger.commit()

        for written in ledger.every():
            self.models.purse.spent_before(written.asked)
        self.models.look, self.models.ledger = look, ledger
        try:
            made = [make_part(part, shop) for part in self.parts]
        except Conflict:
            raise
        except LrmError:
            ledger.commit(everything=True)
            raise
        ledger.commit(everything=True)
        return made

    def _manifest(self, mixed: Examples, made: Sequence[Made], run: Follower, store: ObjectStore) -> Dataset:
        manifest = Dataset(name=self.spec.name, spec=self.spec, examples=len(mixed))
        for each in made:
            manifest.parts.append(each.counts)
            manifest.funnel.extend(each.funnel)
            manifest.bad_rows += each.bad_rows
            add(manifest.asked, each.asked)
        for _, _, context in self.filters:
            add(manifest.asked, context.asking.asked)
        tokenizer = read_tokenizer(store, self.tokenizer) if self.tokenizer else None

        def counted(done: int) -> None:
            run.progress("survey", done, len(mixed), "examples")

        survey.examine(mixed, manifest, tokenizer, comparisons(self.models.clients), counted)
        for name, _, context in self.filters:
            context.findings.tell(manifest, name)
        return manifest


def plan(spec: DatasetSpec, settings: Settings, store: ObjectStore, clients: Clients | None = None) -> Plan:
    """Checks and opens everything. Raises InvalidInput, NotFound or Unavailable, in words that name the part."""
    resolved = _resolved(spec)
    checkpoint = None
    if spec.tokenizer:
        checkpoint = artefacts.find(store, "checkpoints", Checkpoint, spec.tokenizer)
        resolved.tokenizer = reference(checkpoint.name, checkpoint.digest)
    models = Models(lambda: clients or Clients(settings), spec.budget)
    opened = [_open(part, settings, models) for part in resolved.parts]
    names = _told_apart([each.filter for each in resolved.filters])
    prepared = [filters.prepare(each, settings, models, n) for n, each in zip(names, resolved.filters, strict=True)]
    inputs = [digest for _, digests in opened for digest in digests]
    inputs += [digest for _, context in prepared for digest in context.inputs]
    steps = [(name, keep, context) for name, (keep, context) in zip(names, prepared, strict=True)]
    return Plan(resolved, [part for part, _ in opened], steps, inputs, checkpoint, models)


def publish(examples: Sequence[Example], manifest: Dataset, store: ObjectStore, folder: Path) -> Dataset:
    """Writes the examples as shards into `folder`, beside what is there, and announces the dataset."""
    for shard, start in enumerate(range(0, len(examples), SHARD_EXAMPLES)):
        data = jsonl.pack(examples[start : start + SHARD_EXAMPLES])
        (folder / f"examples-{shard:05d}.jsonl.zst").write_bytes(data)
    published = artefacts.publish(store, KIND, folder, manifest)
    log.info("dataset_published", dataset=published.name, digest=published.digest, examples=published.examples)
    return published


def _resolved(spec: DatasetSpec) -> DatasetSpec:
    done = DatasetSpec()
    done.CopyFrom(spec)
    if not _NAME.fullmatch(spec.name):
        raise InvalidInput(f"dataset name {spec.name!r}: expected 1 to 63 letters, digits, dots, dashes, underscores")
    if not spec.parts:
        raise InvalidInput(f"dataset {spec.name} has no `parts`; expected at least one, with a builder and a source")
    done.on_bad_row = spec.on_bad_row or FAIL
    if done.on_bad_row not in (FAIL, SKIP):
        raise InvalidInput(f"on_bad_row is {spec.on_bad_row!r}; expected {FAIL} or {SKIP}")
    for number, part in enumerate(done.parts):
        part.name = part.name or f"{part.builder}_{number}"
        if part.count < 0:
            raise InvalidInput(f"part {part.name}: count is {part.count}; expected 0 for all, or a number above it")
        if part.select and not part.count:
            raise InvalidInput(f"part {part.name} selects with {part.select}, but has no `count`; say how many")
    doubled = [name for name, n in Counter(part.name for part in done.parts).items() if n > 1]
    if doubled:
        raise InvalidInput(f"dataset {spec.name} has more than one part {', '.join(doubled)}; names are unique")
    every = [model for part in done.parts for model in (part.writer, part.grader)]
    writers = [model for model in (*every, *(each.grader for each in done.filters)) if model.endpoint]
    for model in writers:
        model.sampling.seed = (model.sampling.seed or spec.seed) % SEEDS
    budget.check(spec.budget, writers)
    return done


def _open(spec: PartSpec, settings: Settings, models: Models) -> tuple[Part, list[str]]:
    """The part, and digests of all that decides what comes of it."""
    source, builder = open_source(spec.source, settings), builders.find(spec.builder, spec.options)
    owner = f"part {spec.name}, builder {builder.name},"
    if builder.write is None and (spec.writer.endpoint or spec.grader.endpoint):
        raise InvalidInput(f"{owner} asks no model; leave out writer and grader")
    asking = Asking(owner, models, spec.writer, spec.grader)
    for role in builder.asks:
        asking.of(role).needed()
    inputs = [source.digest, builder.digest, *asking.inputs]
    select = None
    if spec.select:
        select, context = selector.prepare(spec, settings, models)
        inputs += context.inputs
    return Part(spec, source, builder, asking, select), inputs


def _told_apart(names: Sequence[str]) -> list[str]:
    """A name that comes again gets a number: ngram, ngram 2."""
    before = [names[:number].count(name) for number, name in enumerate(names)]
    return [f"{name} {n + 1}" if n else name for name, n in zip(names, before, strict=True)]


def _losses(counts: Sequence[PartCounts]) -> str:
    return "; ".join(
        f"part {each.name}: {each.read} rows read" + "".join(f", {n} {why}" for why, n in each.dropped.items())
        for each in counts
    )
