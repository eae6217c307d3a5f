"""Carries a recipe out by RPC only: import -> (build -> train, for each stage) -> measure base and trained -> gate.

The base that is measured is what the last stage before the recipe's own training made; without stages, the import.

Every stage asks its service for a run. A run that is done answers at once, one that stopped half-way goes on, so asking
for the same recipe again finishes it and repeats nothing. An engine is started only when a run needs it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from lrm_safety.adoption import CHANGED
from lrm_safety.clients import Clients, rpc, rpc_stream
from lrm_safety.errors import Conflict, LrmError, NotFound, Unavailable
from lrm_safety.nouns import (
    BenchSpec,
    BuildDatasetRequest,
    CheckGateRequest,
    Checkpoint,
    DatasetSpec,
    DeployRequest,
    Endpoint,
    EndpointState,
    GetCheckpointRequest,
    GetEndpointRequest,
    GetOutcomeRequest,
    ImportCheckpointRequest,
    Recipe,
    RecipeOutcome,
    RetireRequest,
    Run,
    RunBenchmarksRequest,
    RunState,
    TrainingSpec,
    TrainRequest,
    WatchRunRequest,
    has_ended,
    reference,
)
from lrm_safety.runs import OWNER_GONE

T = TypeVar("T")
ENGINE_READY_S = 900.0
RETIRE_S = 300.0  # what is in flight ends first
_POLL_S = 0.5
_AWAY_POLL_S = 2.0


class Watcher(Protocol):
    """Who is told how it goes: the CLI's live display."""

    def stage(self, name: str, run: Run) -> None: ...

    def engine(self, name: str, endpoint: Endpoint) -> None: ...


@dataclass
class Pipeline:
    clients: Clients
    recipe: Recipe
    watcher: Watcher

    def run(self) -> RecipeOutcome:
        """Raises the error of the stage that failed; what was done until then stays done."""
        base = self._base()
        baseline = candidate = ""
        training_run = dataset = trained = ""
        for number, stage in enumerate(self.recipe.stages, start=1):
            built = self._build(stage.dataset, base, f"build, stage {number}")
            base = self._checkpoint(self._train(stage.training, base, built, f"train, stage {number}")[1])
        if self.recipe.HasField("training"):
            dataset = self._build(self.recipe.dataset, base, "build")
            training_run, trained = self._train(self.recipe.training, base, dataset, "train")
        baseline = self._measure("measure base", base)
        if trained:
            candidate = self._measure("measure trained", self._checkpoint(trained), baseline)
        request = CheckGateRequest(
            baseline_run=baseline,
            candidate_run=candidate,
            gate=self.recipe.gate,
            recipe=self.recipe,
            dataset=dataset,
            training_run=training_run,
            checkpoint=trained,
        )
        decision = self._ask("bench", self.clients.bench.CheckGate, request)
        return self._ask("bench", self.clients.bench.GetOutcome, GetOutcomeRequest(run=decision.run))

    def _base(self) -> Checkpoint:
        try:
            return self._checkpoint(self.recipe.model)
        except NotFound:
            if not self.recipe.origin:
                raise
        request = ImportCheckpointRequest(name=self.recipe.model, origin=self.recipe.origin)
        run = self._follow("trainer", "import", lambda: rpc(self.clients.trainer.ImportCheckpoint, request))
        return self._checkpoint(run.result)

    def _build(self, asked: DatasetSpec, base: Checkpoint, row: str) -> str:
        spec = DatasetSpec()
        spec.CopyFrom(asked)
        if spec.tokenizer == self.recipe.model:
            spec.tokenizer = reference(base.name, base.digest)
        request = BuildDatasetRequest(spec=spec)
        return self._follow("data", row, lambda: rpc(self.clients.data.BuildDataset, request)).result

    def _train(self, asked: TrainingSpec, base: Checkpoint, dataset: str, row: str) -> tuple[str, str]:
        """(run, checkpoint)."""
        spec = TrainingSpec()
        spec.CopyFrom(asked)
        spec.base, spec.dataset = reference(base.name, base.digest), dataset
        run = self._follow("trainer", row, lambda: rpc(self.clients.trainer.Train, TrainRequest(spec=spec)))
        return run.id, run.result

    def _measure(self, stage: str, checkpoint: Checkpoint, baseline: str = "") -> str:
        """The bench run of one checkpoint, against a baseline only as long as a sequential gate needs it.

        Its engine lives only while this run or another needs it.
        """
        endpoint = f"{checkpoint.name}-{checkpoint.digest[:8]}"
        spec = BenchSpec()
        spec.CopyFrom(self.recipe.evaluation)
        spec.endpoint = endpoint
        if baseline and self.recipe.gate.method == "sequential":
            spec.baseline_run = baseline
            spec.gate.CopyFrom(self.recipe.gate)
        request = RunBenchmarksRequest(spec=spec)

        def ask() -> Run:
            try:
                return rpc(self.clients.bench.RunBenchmarks, request)
            except (Conflict, NotFound, Unavailable):  # no engine yet, or no longer
                self._deploy(stage, endpoint, checkpoint)
                return rpc(self.clients.bench.RunBenchmarks, request)

        run = self._follow("bench", stage, ask)
        self._retire(endpoint)
        return run.id

    def _deploy(self, stage: str, name: str, checkpoint: Checkpoint) -> None:
        request = DeployRequest(
            name=name, checkpoint=reference(checkpoint.name, checkpoint.digest), engine=self.recipe.engine
        )
        endpoint = rpc(self.clients.inference.Deploy, request, timeout_s=300)
        deadline = time.monotonic() + ENGINE_READY_S
        while endpoint.state != EndpointState.ENDPOINT_STATE_READY:
            self.watcher.engine(stage, endpoint)
            if endpoint.state == EndpointState.ENDPOINT_STATE_FAILED:
                raise Unavailable(f"the engine of {name} did not start: {endpoint.error}")
            if time.monotonic() > deadline:
                raise Unavailable(f"the engine of {name} was not ready within {ENGINE_READY_S:.0f} s; see `lrm doctor`")
            time.sleep(_POLL_S)
            endpoint = self._ask("inference", self.clients.inference.GetEndpoint, GetEndpointRequest(name=name))

    def _retire(self, name: str) -> None:
        endpoint = self._ask("inference", self.clients.inference.GetEndpoint, GetEndpointRequest(name=name))
        if endpoint.state not in (EndpointState.ENDPOINT_STATE_RETIRED, EndpointState.ENDPOINT_STATE_FAILED):
            self._ask(
                "inference", self.clients.inference.Retire, RetireRequest(name=name, unless_needed=True), RETIRE_S
            )

    def _checkpoint(self, name: str) -> Checkpoint:
        return self._ask("trainer", self.clients.trainer.GetCheckpoint, GetCheckpointRequest(checkpoint=name))

    def _ask(self, service: str, method: Callable[..., T], request: Any, timeout_s: float = 60.0) -> T:
        """What changes nothing when it is asked twice."""
        row = f"{service} service"

        def say(why: str) -> None:
            self.watcher.stage(row, Run(waiting=why))

        return patiently(self.clients, service, lambda: rpc(method, request, timeout_s), say)

    def _follow(self, service: str, stage: str, ask: Callable[[], Run]) -> Run:
        return follow(self.clients, service, ask, lambda run: self.watcher.stage(stage, run))


def follow(clients: Clients, service: str, ask: Callable[[], Run], show: Callable[[Run], None]) -> Run:
    """Asks for a run and follows it to its end; a run that nobody will go on with is asked for again.

    Raises LrmError with the run's own words when it failed or was cancelled.
    """
    run = ask()
    while not has_ended(run):
        run = watch(clients, service, run, show)
        if run.waiting == OWNER_GONE or run.error.endswith(CHANGED):
            run = patiently(clients, service, ask, _saying(run, show))
    show(run)
    if run.state != RunState.RUN_STATE_DONE:
        raise LrmError(f"{run.id}: {run.error}")
    return run


def watch(clients: Clients, service: str, run: Run, show: Callable[[Run], None]) -> Run:
    """Follows a run until it has ended, or nobody will go on with it. Services may restart meanwhile."""
    while not has_ended(run) and run.waiting != OWNER_GONE:
        run = patiently(clients, service, partial(_look, clients, service, run.id, show), _saying(run, show))
    return run


def patiently(clients: Clients, service: str, ask: Callable[[], T], say: Callable[[str], None]) -> T:
    """The answer, if need be after the service was away for a while. Raises Unavailable when it stays away."""
    until = time.monotonic() + clients.patience_s(service)
    while True:
        try:
            return ask()
        except Unavailable as error:
            left_s = until - time.monotonic()
            if left_s <= 0:
                raise
            say(f"{service} is away, trying for {left_s:.0f} s more ({error})")
            time.sleep(min(_AWAY_POLL_S, left_s))


def _look(clients: Clients, service: str, id_: str, show: Callable[[Run], None]) -> Run:
    """The run as last seen before its stream ended. Raises Unavailable when there was none."""
    run: Run | None = None
    try:
        for seen in rpc_stream(clients.runs(service).WatchRun, WatchRunRequest(id=id_)):
            show(run := seen)
            if run.waiting == OWNER_GONE:
                break
    except Unavailable:
        if run is None:
            raise
    if run is None:  # the service stops, and says nothing more
        raise Unavailable(f"{service} stops")
    return run


def _saying(run: Run, show: Callable[[Run], None]) -> Callable[[str], None]:
    """Shows the run with what it waits for."""

    def say(why: str) -> None:
        waiting = Run()
        waiting.CopyFrom(run)
        waiting.waiting = why
        show(waiting)

    return say
