"""BenchService: evaluates deployed models, keeps records and scorecards, compares two runs and decides the gate."""

import time
from collections.abc import Iterator

import grpc

from lrm_safety import adoption, costs, jsonl, observe, outages, registry, serving, statement, tenancy
from lrm_safety.clients import Clients
from lrm_safety.errors import Conflict, InvalidInput, LrmError, NotFound
from lrm_safety.nouns import (
    BenchmarkSpec,
    BenchSpec,
    CheckGateRequest,
    CompareScorecardsRequest,
    CompareScorecardsResponse,
    Decision,
    EndpointState,
    GateCheckpointRequest,
    GetOutcomeRequest,
    GetScorecardRequest,
    ImportRunRequest,
    ListPluginsRequest,
    ListPluginsResponse,
    ListPoliciesRequest,
    ListPoliciesResponse,
    MeasureNoiseRequest,
    Noise,
    Policy,
    ReadRecordsRequest,
    ReadSamplesRequest,
    RecipeOutcome,
    Record,
    RegisterPolicyRequest,
    Run,
    RunBenchmarksRequest,
    RunSpec,
    RunState,
    Sample,
    Scorecard,
    Tenant,
)
from lrm_safety.runs import OwnedRun, RunHost, Work, read_parts, read_run, run_id
from lrm_safety.runs_service import add_runs
from lrm_safety.settings import Settings
from lrm_safety.store import ObjectStore, open_store
from lrm_safety.v1.bench_pb2 import DESCRIPTOR as BENCH
from lrm_safety.v1.bench_pb2_grpc import BenchServiceServicer, add_BenchServiceServicer_to_server
from services.bench import attack, benchmark, gate, imported, noise, outcomes, pages, readiness, webhook
from services.bench.calibrated import read_calibrations
from services.bench.callbacks import Courier
from services.bench.compare import Side, compare, read_side
from services.bench.evaluate import evaluate, unique
from services.bench.gating import Gating
from services.bench.plan import Plan, make_plan
from services.bench.scorecard import build_scorecard
from services.bench.spending import spent
from services.bench.stopping import Stopping, open_stopping, savings
from services.bench.terms import terms_of
from services.bench.trigger import Trigger

FOLDERS = {"attacks": attack.FOLDER, "benchmarks": benchmark.FOLDER}
log = observe.logger(__name__)
ASKABLE = (EndpointState.ENDPOINT_STATE_READY, EndpointState.ENDPOINT_STATE_IDLE)  # an idle one wakes when asked


def register(server: grpc.Server, settings: Settings) -> list[str]:
    """Adds BenchService and Runs to the server; returns their full names."""
    service = BenchServicer(open_store(settings), settings)
    add_BenchServiceServicer_to_server(service, server)
    serving.at_stop(server, service.trigger.stop)
    if settings.webhook_secret:
        serving.at_stop(server, webhook.serve(service.trigger, settings))
    if settings.view_port:
        serving.at_stop(server, pages.serve(settings))
    service.trigger.start()
    return [BENCH.services_by_name["BenchService"].full_name, add_runs(server, service.host)]


class BenchServicer(BenchServiceServicer):
    def __init__(self, store: ObjectStore, settings: Settings) -> None:
        self._store, self._settings = store, settings
        self._clients = Clients(settings)
        self._is_in_cluster = adoption.is_on(settings)
        self.host = RunHost(store, self._is_in_cluster)
        if self._is_in_cluster:
            adoption.Adoption(self.host, {"bench": self._resumed}).start()
        self.trigger = Trigger(self.host, Gating(self.host, settings, self), Courier(store, settings))

    def RunBenchmarks(self, request: RunBenchmarksRequest, context: grpc.ServicerContext) -> Run:
        return self.measure(request, tenancy.of(context))

    def measure(self, request: RunBenchmarksRequest, tenant: Tenant) -> Run:
        """As RunBenchmarks, for whoever `tenant` is."""
        plan = make_plan(request.spec, self._settings, self._clients)
        spec = RunSpec(bench=plan.spec)
        is_done = self._is_done(run_id("bench", spec, *plan.inputs))
        if not is_done:
            self._check_gate(plan)
        if plan.endpoint.state not in ASKABLE and not is_done:
            state = EndpointState.Name(plan.endpoint.state)
            raise Conflict(
                f"endpoint {plan.endpoint.name} is {state}, not READY; deploy it, wait until it is, then ask again"
            )
        return self.host.start("bench", spec, lambda run: self._work(run, plan), *plan.inputs, tenant=tenant)

    def GetScorecard(self, request: GetScorecardRequest, context: grpc.ServicerContext) -> Scorecard:
        return self._scorecard(request.run)

    def ReadRecords(self, request: ReadRecordsRequest, context: grpc.ServicerContext) -> Iterator[Record]:
        read_run(self._store, request.run)
        yield from unique(read_parts(self._store, request.run, Record))

    def ReadSamples(self, request: ReadSamplesRequest, context: grpc.ServicerContext) -> Iterator[Sample]:
        spec = BenchmarkSpec(benchmark=request.benchmark)
        yield from benchmark.load_benchmark(spec, self._settings.data_dir, seed=0).samples

    def ImportRun(self, requests: Iterator[ImportRunRequest], context: grpc.ServicerContext) -> Run:
        return imported.start(self.host, requests, tenancy.of(context))

    def CompareScorecards(
        self, request: CompareScorecardsRequest, context: grpc.ServicerContext
    ) -> CompareScorecardsResponse:
        baseline, candidate = self._side(request.baseline_run), self._side(request.candidate_run)
        return CompareScorecardsResponse(comparisons=compare(baseline, candidate))

    def MeasureNoise(self, request: MeasureNoiseRequest, context: grpc.ServicerContext) -> Noise:
        found = noise.measure_noise([self._side(run) for run in dict.fromkeys(request.runs)])
        noise.keep_noise(self._store, found)
        return found

    def CheckGate(self, request: CheckGateRequest, context: grpc.ServicerContext) -> Decision:
        outcome = self.decide(request)
        spec = RunSpec(recipe=request.recipe)
        is_recipe = request.HasField("recipe")
        id_ = run_id("recipe", spec) if is_recipe else request.candidate_run or request.baseline_run
        outcome.run = outcome.decision.run = id_
        outcomes.keep(self._store, self._settings, outcome, is_whole=is_recipe)
        if is_recipe:
            now = time.time()
            done = Run(id=id_, kind="recipe", spec=spec, state=RunState.RUN_STATE_DONE, result=id_)
            done.created_at = done.updated_at = now
            self._store.create(f"runs/{id_}/result.json", jsonl.dumps(done).encode())
        return outcome.decision

    def GetOutcome(self, request: GetOutcomeRequest, context: grpc.ServicerContext) -> RecipeOutcome:
        key, signed = f"runs/{request.run}/outcome.json", f"runs/{request.run}/{statement.FILE}"
        if self._store.stat(key):
            outcome = jsonl.loads(RecipeOutcome, self._store.read(key))
            outcome.statement = self._store.read(signed).decode() if self._store.stat(signed) else ""
            return outcome
        return RecipeOutcome(run=request.run, baseline=self._scorecard(request.run))

    def GateCheckpoint(self, request: GateCheckpointRequest, context: grpc.ServicerContext) -> Run:
        return self.trigger.ask(request.policy, request.checkpoint, request.commit, tenancy.of(context))

    def RegisterPolicy(self, request: RegisterPolicyRequest, context: grpc.ServicerContext) -> Policy:
        return self.trigger.register(request.policy)

    def ListPolicies(self, request: ListPoliciesRequest, context: grpc.ServicerContext) -> ListPoliciesResponse:
        return ListPoliciesResponse(policies=self.trigger.policies())

    def ListPlugins(self, request: ListPluginsRequest, context: grpc.ServicerContext) -> ListPluginsResponse:
        if request.kind not in FOLDERS:
            raise InvalidInput(f"kind is {request.kind!r}; expected one of {', '.join(FOLDERS)}")
        return ListPluginsResponse(plugins=registry.describe(FOLDERS[request.kind]))

    def _resumed(self, run: Run) -> Work:
        """Raises what `make_plan` raises, and Conflict when it would be another measurement now."""
        plan = make_plan(run.spec.bench, self._settings, self._clients)
        adoption.check_same(run, run_id("bench", RunSpec(bench=plan.spec), *plan.inputs))
        return lambda owned: self._work(owned, plan)

    def _work(self, run: OwnedRun, plan: Plan) -> str:
        """Records, then the scorecard, which is written once: after it no sample is asked again."""
        key = f"runs/{run.id}/scorecard.json"
        if self._store.stat(key) is None:
            started = time.monotonic()
            run.check_cancelled()
            baseline = self._side(plan.spec.baseline_run) if plan.spec.baseline_run else None
            try:
                self._evaluate(run, plan, baseline)
            finally:
                self._note_cost(run)
            seconds = time.monotonic() - started
            records = unique(run.parts(Record))
            card = build_scorecard(run.id, plan.spec, plan.endpoint, records, seconds, plan.counts())
            card.inputs.extend(plan.inputs[1:])
            if baseline is not None:
                recorded = {record.key for record in run.parts(Record)}
                card.saved.CopyFrom(savings((task.key for task in plan.tasks()), recorded, baseline, card))
            self._store.create(key, jsonl.dumps(card).encode())
        return run.id

    def _evaluate(self, run: OwnedRun, plan: Plan, baseline: Side | None) -> None:
        def attempt() -> None:
            readiness.make_ready(run, plan, self._clients, self._settings)
            evaluate(run, plan, self._clients, self._stopping(run, baseline))

        if self._is_in_cluster:
            outages.get_over(run, attempt, outages.PATIENCE_S, lambda: sum(1 for _ in run.parts(Record)))
        else:
            evaluate(run, plan, self._clients, self._stopping(run, baseline))

    def _stopping(self, run: OwnedRun, baseline: Side | None) -> Stopping:
        """Nothing read yet. Waivers count as of the first asking: every owner of a run decides alike."""
        if baseline is None:
            return Stopping()
        terms = terms_of(run.spec.bench.gate, gate.roles_of(baseline), run.described().created_at)
        known = self._evidence(baseline, run.spec.bench)
        return open_stopping(terms, baseline, gate.sharpness_of(terms, baseline, known.calibrations), known.history)

    def _check_gate(self, plan: Plan) -> None:
        """Raises what a gate would raise after the measurement, before it: NotFound, Conflict, InvalidInput."""
        if plan.spec.baseline_run:
            card = self._scorecard(plan.spec.baseline_run)
            gate.check_baseline(card, plan.spec)
            terms = terms_of(plan.spec.gate, {cell.benchmark: cell.role for cell in card.cells}, time.time())
            noise.check_margins(terms, noise.find_noise(self._store, noise.suite_digest(card.spec)))

    def _evidence(self, baseline: Side, candidate: BenchSpec) -> gate.Evidence:
        card = baseline.scorecard
        return gate.Evidence(
            noise.find_noise(self._store, noise.suite_digest(card.spec)),
            read_calibrations(self._store, (cell.judge_digest for cell in card.cells if cell.judge_digest)),
            [self._side(run) for run in candidate.history],
        )

    def _note_cost(self, run: OwnedRun) -> None:
        try:
            costs.record(self._store, spent(run.described(), run.parts(Record)))
        except LrmError as error:  # what it cost must not decide what it found
            log.warning("cost_not_noted", run=run.id, error=str(error))

    def decide(self, request: CheckGateRequest) -> RecipeOutcome:
        """Two runs compared and decided, not kept yet."""
        outcome = RecipeOutcome(
            recipe=request.recipe if request.HasField("recipe") else None,
            dataset=request.dataset,
            training_run=request.training_run,
            checkpoint=request.checkpoint,
        )
        baseline = self._side(request.baseline_run)
        outcome.baseline.CopyFrom(baseline.scorecard)
        if not request.candidate_run:
            outcome.decision.CopyFrom(gate.undecided(request.gate, request.baseline_run))
            return outcome
        candidate = self._side(request.candidate_run)
        outcome.candidate.CopyFrom(candidate.scorecard)
        evidence = self._evidence(baseline, candidate.scorecard.spec)
        outcome.decision.CopyFrom(gate.decide(request.gate, baseline, candidate, evidence))
        outcome.comparisons.extend(compare(baseline, candidate))
        return outcome

    def _side(self, run: str) -> Side:
        return read_side(self._scorecard(run), unique(read_parts(self._store, run, Record)))

    def _scorecard(self, run: str) -> Scorecard:
        key = f"runs/{run}/scorecard.json"
        if self._store.stat(key):
            return jsonl.loads(Scorecard, self._store.read(key))
        state = RunState.Name(read_run(self._store, run).state)
        raise NotFound(f"run {run} has no scorecard: it is {state}; a bench run writes it when it ends")

    def _is_done(self, run: str) -> bool:
        return self._store.stat(f"runs/{run}/result.json") is not None
