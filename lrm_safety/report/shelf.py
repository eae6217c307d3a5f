"""What the viewer reads from the store, and never writes: outcomes, scorecards, datasets, training curves, costs."""

from collections.abc import Iterator
from typing import TypeVar

from google.protobuf.message import Message

from lrm_safety import artefacts, costs, jsonl
from lrm_safety.errors import NotFound
from lrm_safety.nouns import (
    BenchSpec,
    Cost,
    Dataset,
    Decision,
    RecipeOutcome,
    Record,
    RunState,
    Scorecard,
    TrainingMetrics,
    TrainingSetup,
)
from lrm_safety.report.facts import ReportData, baseline_of, candidate_of, decision_of
from lrm_safety.runs import read_parts, read_run
from lrm_safety.store import ObjectStore

M = TypeVar("M", bound=Message)
RESULTS = ("outcome.json", "decision.json", "scorecard.json")


class Shelf:
    """Reads at every call, so a page shows what is there when it is asked for."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store

    def outcomes(self) -> list[RecipeOutcome]:
        """Everything that was decided, then every measurement that no decision speaks of; each newest first."""
        found: dict[str, set[str]] = {}
        for key in self.store.list("runs/"):
            _, run, *rest = key.split("/")
            if rest and rest[0] in RESULTS:
                found.setdefault(run, set()).add(rest[0])
        every = [self.outcome(run) for run in found]
        decided = [each for each in every if decision_of(each) or candidate_of(each)]
        spoken_of = {card.run for each in decided for card in (each.baseline, each.candidate)}
        measured = [each for each in every if each not in decided and each.baseline.run not in spoken_of]
        return sorted(decided, key=lambda o: -moment_of(o)) + sorted(measured, key=lambda o: -moment_of(o))

    def outcome(self, run: str) -> RecipeOutcome:
        """Of a recipe, of a decision between two bench runs, or of one bench run, ended or not. Raises NotFound."""
        outcome = self._find(RecipeOutcome, f"runs/{run}/outcome.json")
        if outcome:
            return outcome
        decision = self._find(Decision, f"runs/{run}/decision.json")
        if decision and decision.candidate_run:
            decided = self.pair(decision.baseline_run, decision.candidate_run)
            decided.run = run
            decided.decision.CopyFrom(decision)
            return decided
        return RecipeOutcome(run=run, baseline=self.scorecard(run))

    def pair(self, baseline_run: str, candidate_run: str) -> RecipeOutcome:
        """Two bench runs beside each other, about which nothing was decided."""
        return RecipeOutcome(baseline=self.scorecard(baseline_run), candidate=self.scorecard(candidate_run))

    def scorecard(self, run: str) -> Scorecard:
        """Without cells while the run goes on. Raises NotFound when there is no such bench run."""
        card = self._find(Scorecard, f"runs/{run}/scorecard.json")
        if card:
            return card
        asked = read_run(self.store, run)
        if asked.kind != "bench":
            raise NotFound(f"run {run} is a {asked.kind} run, {state_of(asked.state)}; it has no samples to show")
        return Scorecard(run=run, endpoint=asked.spec.bench.endpoint, spec=asked.spec.bench)

    def data(self, outcome: RecipeOutcome) -> ReportData:
        """All that its page shows; what is no longer in the store is left out."""
        dataset = None
        if outcome.dataset:
            try:
                dataset = self.dataset(outcome.dataset)
            except NotFound:
                dataset = None
        metrics, setup = list(self.metrics(outcome.training_run)), self._setup(outcome.training_run)
        return ReportData(outcome, dataset, metrics, self._records, setup)

    def datasets(self) -> list[Dataset]:
        """Newest first."""
        return artefacts.list_all(self.store, "datasets", Dataset)

    def dataset(self, reference: str) -> Dataset:
        """Raises NotFound."""
        return artefacts.find(self.store, "datasets", Dataset, reference)

    def _setup(self, training_run: str) -> TrainingSetup | None:
        key = f"runs/{training_run}/job/setup.json"
        return jsonl.loads(TrainingSetup, self.store.read(key)) if training_run and self.store.stat(key) else None

    def metrics(self, training_run: str) -> Iterator[TrainingMetrics]:
        """One row a step, in order; of a step trained twice the later attempt counts."""
        rows: dict[int, TrainingMetrics] = {}
        keys = self.store.list(f"runs/{training_run}/job/metrics/") if training_run else iter(())
        for key in keys:
            rows |= {row.step: row for row in jsonl.unpack(TrainingMetrics, self.store.read(key))}
        yield from (rows[step] for step in sorted(rows))

    def bench_spec(self, run: str) -> BenchSpec:
        return self.scorecard(run).spec

    def costs(self) -> list[Cost]:
        """Newest first."""
        return costs.list_costs(self.store)

    def _records(self, run: str) -> Iterator[Record]:
        return read_parts(self.store, run, Record)

    def _find(self, kind: type[M], key: str) -> M | None:
        return jsonl.loads(kind, self.store.read(key)) if self.store.stat(key) else None


def moment_of(outcome: RecipeOutcome) -> float:
    """When it was decided, else when it was measured, in seconds since 1970."""
    measured = [card.created_at for card in (baseline_of(outcome), candidate_of(outcome)) if card]
    return outcome.decision.created_at or max(measured, default=0.0)


def state_of(state: "RunState.ValueType") -> str:
    return RunState.Name(state).removeprefix("RUN_STATE_")
