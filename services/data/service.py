"""DataService over gRPC: unpacks, calls build.py or the store, packs."""

from collections.abc import Iterator

import grpc

from lrm_safety import adoption, artefacts, registry, tenancy
from lrm_safety.clients import Clients
from lrm_safety.errors import InvalidInput, NotFound
from lrm_safety.nouns import (
    BuildDatasetRequest,
    Change,
    Checkpoint,
    Dataset,
    DiffDatasetsRequest,
    Example,
    GetDatasetRequest,
    InspectExampleRequest,
    InspectExampleResponse,
    ListDatasetsRequest,
    ListDatasetsResponse,
    ListPluginsRequest,
    ListPluginsResponse,
    ReadExamplesRequest,
    Run,
    RunSpec,
    reference,
)
from lrm_safety.runs import OwnedRun, RunHost, Work, run_id
from lrm_safety.runs_service import add_runs
from lrm_safety.settings import Settings
from lrm_safety.store import open_store
from lrm_safety.v1 import data_pb2, data_pb2_grpc
from services.data import builder, filter, inspection, selector, source, spending
from services.data.build import Plan, plan
from services.data.reading import KIND, read_examples
from services.data.tokens import read_tokenizer, response_tokens

PLUGINS = {"builders": builder.FOLDER, "sources": source.FOLDER, "filters": filter.FOLDER, "selectors": selector.FOLDER}


def register(server: grpc.Server, settings: Settings) -> list[str]:
    """Adds DataService and Runs to the server; returns their full names."""
    service = DataService(settings)
    data_pb2_grpc.add_DataServiceServicer_to_server(service, server)
    return [data_pb2.DESCRIPTOR.services_by_name["DataService"].full_name, add_runs(server, service.host)]


class DataService(data_pb2_grpc.DataServiceServicer):
    def __init__(self, settings: Settings) -> None:
        self.store = open_store(settings)
        self._settings, self._clients = settings, Clients(settings)
        self.host = RunHost(self.store, adoption.is_on(settings))
        if adoption.is_on(settings):
            adoption.Adoption(self.host, {"dataset": self._resumed}).start()

    def BuildDataset(self, request: BuildDatasetRequest, context: grpc.ServicerContext) -> Run:
        planned = plan(request.spec, self._settings, self.store, self._clients)
        asked = RunSpec(dataset=planned.spec)
        work = self._work(planned)
        return self.host.start("dataset", asked, work, *planned.inputs, tenant=tenancy.of(context))

    def GetDataset(self, request: GetDatasetRequest, context: grpc.ServicerContext) -> Dataset:
        dataset = self._find(request.dataset)
        if request.tokenizer:
            checkpoint = artefacts.find(self.store, "checkpoints", Checkpoint, request.tokenizer)
            examples = read_examples(self.store, dataset)
            dataset.response_tokens.CopyFrom(response_tokens(examples, read_tokenizer(self.store, checkpoint)))
            dataset.spec.tokenizer = reference(checkpoint.name, checkpoint.digest)
        return dataset

    def ListDatasets(self, request: ListDatasetsRequest, context: grpc.ServicerContext) -> ListDatasetsResponse:
        return ListDatasetsResponse(datasets=artefacts.list_all(self.store, KIND, Dataset))

    def ReadExamples(self, request: ReadExamplesRequest, context: grpc.ServicerContext) -> Iterator[Example]:
        if request.limit < 0:
            raise InvalidInput(f"limit is {request.limit}; expected 0 for all, or a number above it")
        yield from read_examples(self.store, self._find(request.dataset), request.limit)

    def InspectExample(self, request: InspectExampleRequest, context: grpc.ServicerContext) -> InspectExampleResponse:
        example = inspection.find_example(self.store, self._find(request.dataset), request.id)
        answer = InspectExampleResponse(example=example)
        if request.tokenizer:
            folder = self._settings.state_dir / "data" / "tokenizers"
            answer.tokens.extend(inspection.tokens(self.store, example, request, folder))
        return answer

    def DiffDatasets(self, request: DiffDatasetsRequest, context: grpc.ServicerContext) -> Iterator[Change]:
        yield from inspection.differences(self.store, self._find(request.before), self._find(request.after))

    def ListPlugins(self, request: ListPluginsRequest, context: grpc.ServicerContext) -> ListPluginsResponse:
        if request.kind not in PLUGINS:
            raise NotFound(f"DataService has no plugins {request.kind!r}; it has: {', '.join(PLUGINS)}")
        return ListPluginsResponse(plugins=registry.describe(PLUGINS[request.kind]))

    def _find(self, dataset: str) -> Dataset:
        return artefacts.find(self.store, KIND, Dataset, dataset)

    def _work(self, planned: Plan) -> Work:
        def work(run: OwnedRun) -> str:
            with spending.noting(run, planned.models.purse):
                dataset = planned.carry_out(run, self.store, self._settings.state_dir / "data")
            return reference(dataset.name, dataset.digest)

        return work

    def _resumed(self, run: Run) -> Work:
        """Raises what `plan` raises, and Conflict when it would be another dataset now."""
        planned = plan(run.spec.dataset, self._settings, self.store, self._clients)
        adoption.check_same(run, run_id("dataset", RunSpec(dataset=planned.spec), *planned.inputs))
        return self._work(planned)
