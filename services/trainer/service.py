"""TrainerService over gRPC: checks what is asked, starts runs, answers from the store. Training itself is a Job."""

import signal
from collections.abc import Iterator
from functools import partial

import grpc

from lrm_safety import adoption, artefacts, outages, registry, tenancy
from lrm_safety.errors import InvalidInput, NotFound
from lrm_safety.jobs import JobSpec, JobState, open_runner
from lrm_safety.nouns import (
    Analysis,
    AnalyzeRequest,
    Checkpoint,
    Dataset,
    GetAnalysisRequest,
    GetCheckpointRequest,
    GetSetupRequest,
    ImportCheckpointRequest,
    ListCheckpointsRequest,
    ListCheckpointsResponse,
    ListPluginsRequest,
    ListPluginsResponse,
    ReadMetricsRequest,
    Run,
    RunSpec,
    TrainingMetrics,
    TrainingSetup,
    TrainingSpec,
    TrainRequest,
    reference,
)
from lrm_safety.runs import RunHost, read_run
from lrm_safety.runs_service import add_runs
from lrm_safety.settings import Settings
from lrm_safety.store import open_store
from lrm_safety.v1 import trainer_pb2, trainer_pb2_grpc
from services.trainer import continuing, limits, method, weighing
from services.trainer.following import JobRun
from services.trainer.jobs import analysis_job, import_job, job_id, worker_job
from services.trainer.ledger import Ledger
from services.trainer.origins import Origin


def register(server: grpc.Server, settings: Settings) -> list[str]:
    """Adds TrainerService and Runs to the server; returns their full names."""
    service = TrainerService(settings)
    trainer_pb2_grpc.add_TrainerServiceServicer_to_server(service, server)
    return [trainer_pb2.DESCRIPTOR.services_by_name["TrainerService"].full_name, add_runs(server, service.host)]


class TrainerService(trainer_pb2_grpc.TrainerServiceServicer):
    def __init__(self, settings: Settings) -> None:
        self.store = open_store(settings)
        self._runner = open_runner(settings)
        self._is_offline = settings.hub_offline
        self.host = RunHost(self.store, adoption.is_on(settings))
        patience_s = outages.PATIENCE_S if adoption.is_on(settings) else 0.0
        self._training = JobRun(self._runner, self._worker_job, patience_s)
        self._importing = JobRun(self._runner, self._import_job, patience_s)
        self._analysing = JobRun(self._runner, self._analysis_job, patience_s)
        if adoption.is_on(settings):
            resumes = {
                "training": lambda run: self._training,
                "import": lambda run: self._importing,
                "analysis": lambda run: self._analysing,
            }
            adoption.Adoption(self.host, resumes).start()

    def Train(self, request: TrainRequest, context: grpc.ServicerContext) -> Run:
        """Raises InvalidInput (a value out of range, no answers), NotFound (no such base, dataset, method or run)."""
        spec = limits.resolve(request.spec)
        method.check_name(spec.method)
        base = artefacts.find_model(self.store, spec.base)
        spec.base, spec.dataset = reference(base.name, base.digest), self._examples(spec.dataset)
        if spec.continues:
            continuing.require_point(self.store, spec)
        self._runner.machine(spec.node_pool)
        return self.host.start("training", RunSpec(training=spec), self._training, tenant=tenancy.of(context))

    def ImportCheckpoint(self, request: ImportCheckpointRequest, context: grpc.ServicerContext) -> Run:
        """Raises InvalidInput (what is no origin), NotFound (no such folder)."""
        limits.check_name(request.name, "name")
        origin = Origin.parse(request.origin)
        asked = RunSpec(training=TrainingSpec(name=request.name, base=str(origin)))
        return self.host.start("import", asked, self._importing, origin.identity(), tenant=tenancy.of(context))

    def Analyze(self, request: AnalyzeRequest, context: grpc.ServicerContext) -> Run:
        """Raises InvalidInput, NotFound (no such checkpoint or dataset)."""
        spec = limits.resolve_analysis(request.spec)
        for field in ("checkpoint", "base") if spec.base else ("checkpoint",):
            found = artefacts.find_model(self.store, getattr(spec, field))
            setattr(spec, field, reference(found.name, found.digest))
        spec.dataset = self._examples(spec.dataset)
        return self.host.start("analysis", RunSpec(analysis=spec), self._analysing, tenant=tenancy.of(context))

    def GetAnalysis(self, request: GetAnalysisRequest, context: grpc.ServicerContext) -> Analysis:
        return Ledger(self.store, read_run(self.store, request.run).id).read_analysis()

    def GetCheckpoint(self, request: GetCheckpointRequest, context: grpc.ServicerContext) -> Checkpoint:
        return artefacts.find(self.store, "checkpoints", Checkpoint, request.checkpoint)

    def ListCheckpoints(
        self, request: ListCheckpointsRequest, context: grpc.ServicerContext
    ) -> ListCheckpointsResponse:
        return ListCheckpointsResponse(checkpoints=artefacts.list_all(self.store, "checkpoints", Checkpoint))

    def ReadMetrics(self, request: ReadMetricsRequest, context: grpc.ServicerContext) -> Iterator[TrainingMetrics]:
        run = read_run(self.store, request.run)
        yield from Ledger(self.store, run.id).read_metrics()

    def GetSetup(self, request: GetSetupRequest, context: grpc.ServicerContext) -> TrainingSetup:
        return Ledger(self.store, read_run(self.store, request.run).id).read_setup()

    def ListPlugins(self, request: ListPluginsRequest, context: grpc.ServicerContext) -> ListPluginsResponse:
        if request.kind not in ("", "methods"):
            raise InvalidInput(f"the trainer has methods, no {request.kind!r}")
        return ListPluginsResponse(plugins=registry.describe(method.METHODS))

    def _examples(self, name: str) -> str:
        """The reference of a dataset. Raises NotFound, InvalidInput when it has examples without an answer."""
        dataset = artefacts.find(self.store, "datasets", Dataset, name)
        limits.check_answers(dataset)
        return reference(dataset.name, dataset.digest)

    def _worker_job(self, run: Run, attempt: int) -> JobSpec:
        spec = run.spec.training
        base = artefacts.find(self.store, "checkpoints", Checkpoint, spec.base)
        return worker_job(run, base.parameters, attempt, self._runner.machine(spec.node_pool))

    def _analysis_job(self, run: Run, attempt: int) -> JobSpec:
        looked_at = artefacts.find(self.store, "checkpoints", Checkpoint, run.spec.analysis.checkpoint)
        return analysis_job(run, looked_at.parameters, attempt, self._runner.machine())

    def _import_job(self, run: Run, attempt: int) -> JobSpec:
        machine, ledger = self._runner.machine(), Ledger(self.store, run.id)
        origin = Origin.parse(run.spec.training.base)
        needed = partial(weighing.needed_gib, origin, self._is_offline)
        was_killed = attempt > 1 and self._was_killed(job_id(run.id, attempt - 1))
        memory_gib = weighing.decide_gib(ledger, attempt, needed, was_killed, machine.memory_gib)
        return import_job(run, memory_gib, attempt, machine)

    def _was_killed(self, job: str) -> bool:
        """For memory, as far as its end tells."""
        try:
            status = self._runner.status(job)
        except NotFound:
            return False
        return status.state is JobState.FAILED and status.exit_code in (128 + signal.SIGKILL, None)
