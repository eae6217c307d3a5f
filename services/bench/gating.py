"""One gate run: a checkpoint and its baseline are deployed, measured, compared and retired.

    gates/<question>/<line>/<checkpoint digest>.json   what was asked first; put-if-absent, so that all who ask agree
    passed/<line>/<suite>/<created at>-<digest>        checkpoints that passed: the newest is the next one's baseline

Both measurements are bench runs of their own, so a baseline is measured once for all who are compared with it, and a
gate run that is taken over goes on where it stopped.
"""

import hashlib
import math
import time
from dataclasses import replace
from functools import partial
from typing import Protocol

from lrm_safety import artefacts, jsonl, observe, outages, policy
from lrm_safety.clients import Clients, rpc
from lrm_safety.errors import Cancelled, Conflict, InvalidInput, LrmError, NotFound, Unavailable
from lrm_safety.nouns import (
    BenchSpec,
    CheckGateRequest,
    Checkpoint,
    DeployRequest,
    EndpointState,
    GateSpec,
    GetEndpointRequest,
    Outcome,
    Policy,
    Recipe,
    RecipeOutcome,
    RetireRequest,
    Run,
    RunBenchmarksRequest,
    RunState,
    Tenant,
    has_ended,
    reference,
)
from lrm_safety.runs import OWNER_GONE, OwnedRun, RunHost
from lrm_safety.settings import Settings
from lrm_safety.store import ObjectStore
from services.bench import history
from services.bench.noise import suite_digest
from services.bench.outcomes import keep
from services.bench.turns import Turns

ENGINE_READY_S = 900.0
RETIRE_S = 300.0  # what is in flight ends first
POLL_S = 0.3
KIND = "checkpoints"
log = observe.logger(__name__)


class Desk(Protocol):
    """What a gate run asks of the service it lives in."""

    def measure(self, request: RunBenchmarksRequest, tenant: Tenant) -> Run: ...

    def decide(self, request: CheckGateRequest) -> RecipeOutcome: ...


def question(store: ObjectStore, asked: Policy, checkpoint: Checkpoint) -> GateSpec:
    """The gate run of a checkpoint under a policy: the same for all who ask, whatever has passed since.

    Raises InvalidInput when there is nothing to compare it with.
    """
    spec = GateSpec(evaluation=asked.evaluation, gate=asked.gate, engine=asked.engine)
    suite = policy.suite_digest(spec)
    asked_digest = hashlib.sha256(f"{suite} {asked.baseline}".encode()).hexdigest()
    key = f"gates/{asked_digest}/{checkpoint.name}/{checkpoint.digest}.json"
    if store.stat(key) is None:
        spec.checkpoint = reference(checkpoint.name, checkpoint.digest)
        spec.baseline = _baseline(store, asked, checkpoint)
        spec.history.extend(history.choose(store, checkpoint, spec))
        store.create(key, jsonl.dumps(spec).encode())
    return jsonl.loads(GateSpec, store.read(key))


def remember(store: ObjectStore, spec: GateSpec, outcome: RecipeOutcome) -> None:
    """For the next checkpoints of its line."""
    made = artefacts.find(store, KIND, Checkpoint, spec.checkpoint)
    history.note(store, made, spec, outcome.candidate.run)
    if outcome.decision.outcome == Outcome.OUTCOME_PASS:
        store.create(f"{_passed(made.name, spec.evaluation)}{made.created_at:020.6f}-{made.digest}", b"")


class Gating:
    """The work of gate runs."""

    def __init__(self, host: RunHost, settings: Settings, desk: Desk) -> None:
        self._host, self._store, self._settings, self._desk = host, host.store, settings, desk
        self._turns = Turns()

    def work(self, run: OwnedRun) -> str:
        """Through outages of any length: nobody asks for this checkpoint anew. Others have their turn meanwhile."""
        return outages.get_over(run, partial(self._work, run), math.inf)

    def _work(self, run: OwnedRun) -> str:
        if self._store.stat(f"runs/{run.id}/outcome.json") is None:
            with self._turns.turn(run):
                keep(self._store, self._settings, self._outcome(run))
        outcome = jsonl.loads(RecipeOutcome, self._store.read(f"runs/{run.id}/outcome.json"))
        remember(self._store, run.spec.gate, outcome)
        verdict = Outcome.Name(outcome.decision.outcome).removeprefix("OUTCOME_")
        log.info("checkpoint_gated", run=run.id, checkpoint=run.spec.gate.checkpoint, verdict=verdict)
        observe.count("lrm_checkpoint_gated_total", verdict=verdict)
        return run.id

    def _outcome(self, run: OwnedRun) -> RecipeOutcome:
        spec, tenant = run.spec.gate, run.described().tenant
        clients = Clients(
            replace(self._settings, team=tenant.team, priority=tenant.priority, cost_centre=tenant.cost_centre)
        )
        try:
            evaluation = BenchSpec()
            evaluation.CopyFrom(spec.evaluation)
            baseline = self._measure(run, clients, spec.baseline, evaluation)
            if spec.gate.method == "sequential":  # it may stop as soon as it is decided
                evaluation.baseline_run = baseline
                evaluation.gate.CopyFrom(spec.gate)
                evaluation.history.extend(spec.history)
            candidate = self._measure(run, clients, spec.checkpoint, evaluation)
        finally:
            clients.close()
        recipe = Recipe(name=spec.checkpoint.split("@")[0], model=spec.baseline, gate=spec.gate, engine=spec.engine)
        recipe.evaluation.CopyFrom(spec.evaluation)
        request = CheckGateRequest(
            baseline_run=baseline, candidate_run=candidate, gate=spec.gate, recipe=recipe, checkpoint=spec.checkpoint
        )
        outcome = self._desk.decide(request)
        outcome.run = outcome.decision.run = run.id
        return outcome

    def _measure(self, run: OwnedRun, clients: Clients, checkpoint: str, evaluation: BenchSpec) -> str:
        """The bench run of one checkpoint. Its engine lives only while this run or another needs it."""
        name, digest = checkpoint.split("@")
        stage = f"measure {name}"
        request = RunBenchmarksRequest(spec=evaluation)
        request.spec.endpoint = f"{name[:80]}-{digest[:8]}"
        try:
            bench = self._follow(run, stage, request, self._ask(run, clients, checkpoint, request))
        finally:
            if _is_ours(run):
                _retire(clients, request.spec.endpoint)
        if bench.state != RunState.RUN_STATE_DONE:
            raise LrmError(f"{stage}: {bench.id}: {bench.error}")
        return bench.id

    def _follow(self, run: OwnedRun, stage: str, request: RunBenchmarksRequest, bench: Run) -> Run:
        """The bench run as it ended. Cancelling the gate cancels it."""
        while not has_ended(bench):
            _mirror(run, stage, bench)
            try:
                run.check_cancelled()
            except Cancelled:
                self._store.write(f"runs/{bench.id}/cancel", b"")
                raise
            time.sleep(POLL_S)
            bench = self._host.get(bench.id)
            if bench.waiting == OWNER_GONE:
                bench = self._desk.measure(request, run.described().tenant)
        return bench

    def _ask(self, run: OwnedRun, clients: Clients, checkpoint: str, request: RunBenchmarksRequest) -> Run:
        tenant = run.described().tenant
        try:
            return self._desk.measure(request, tenant)
        except (Conflict, NotFound, Unavailable):  # no engine yet, or no longer
            _deploy(run, clients, request.spec.endpoint, checkpoint)
            return self._desk.measure(request, tenant)


def _passed(line: str, evaluation: BenchSpec) -> str:
    """Whatever the gate was: a waiver or a margin that changes takes no line its baseline."""
    return f"passed/{line}/{suite_digest(evaluation)}/"


def _baseline(store: ObjectStore, asked: Policy, checkpoint: Checkpoint) -> str:
    """The newest other checkpoint that passed on this line, else the policy's, else what it was trained from."""
    passed = [key.rsplit("-", 1)[1] for key in store.list(_passed(checkpoint.name, asked.evaluation))]
    named = [f"{checkpoint.name}@{digest}" for digest in reversed(passed)]
    for candidate in (*named, asked.baseline, checkpoint.lineage.base):
        try:
            found = artefacts.find(store, KIND, Checkpoint, candidate) if candidate else checkpoint
        except NotFound:
            if candidate == asked.baseline:
                raise
            continue
        if found.digest != checkpoint.digest:
            return reference(found.name, found.digest)
    raise InvalidInput(
        f"{checkpoint.name}: nothing to compare it with: none has passed on this line and it has no base in the store; "
        "set `baseline` in the policy"
    )


def _is_ours(run: OwnedRun) -> bool:
    """Not while it is handed over, nor once another owner needs the engines."""
    try:
        run.check_owned()
    except LrmError:
        return False
    return not run.is_leaving


def _mirror(run: OwnedRun, stage: str, bench: Run) -> None:
    if bench.waiting:
        run.waiting(f"{stage}: {bench.waiting}")
    else:
        run.progress(stage, bench.progress.done, bench.progress.total, bench.progress.unit)


def _deploy(run: OwnedRun, clients: Clients, name: str, checkpoint: str) -> None:
    request = DeployRequest(name=name, checkpoint=checkpoint, engine=run.spec.gate.engine)
    endpoint = rpc(clients.inference.Deploy, request, timeout_s=300)
    until = time.monotonic() + ENGINE_READY_S
    while endpoint.state != EndpointState.ENDPOINT_STATE_READY:
        run.check_cancelled()
        if endpoint.state == EndpointState.ENDPOINT_STATE_FAILED:
            raise LrmError(f"the engine of {name} does not start: {endpoint.error}")
        if time.monotonic() > until:
            raise Unavailable(f"the engine of {name} does not start: {endpoint.error or 'it takes too long'}")
        run.waiting(f"the engine of {name} starts{f': {endpoint.error}' if endpoint.error else ''}")
        time.sleep(POLL_S)
        endpoint = rpc(clients.inference.GetEndpoint, GetEndpointRequest(name=name))


def _retire(clients: Clients, name: str) -> None:
    """Whatever became of the run, its engine stays only where another needs it.

    What cannot be retired is logged, and hides no error.
    """
    over = (EndpointState.ENDPOINT_STATE_RETIRED, EndpointState.ENDPOINT_STATE_FAILED)
    try:
        if rpc(clients.inference.GetEndpoint, GetEndpointRequest(name=name)).state not in over:
            rpc(clients.inference.Retire, RetireRequest(name=name, unless_needed=True), timeout_s=RETIRE_S)
    except LrmError as error:
        log.warning("engine_not_retired", endpoint=name, error=str(error))
