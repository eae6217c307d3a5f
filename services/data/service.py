"""DataService over gRPC: unpacks, calls build.py or the store, packs."""

from collections.abc import Iterator

import grpc

from lrm_safety import artefacts, registry, tenancy
from lrm_safety.errors import InvalidInput, NotFound
from lrm_safety.nouns import (
    BuildDatasetRequest,
    Dataset,
    Example,
    GetDatasetRequest,
    ListDatasetsRequest,
    ListDatasetsResponse,
    ListPluginsRequest,
    ListPluginsResponse,
    ReadExamplesRequest,
    Run,
    RunSpec,
    reference,
)
from lrm_safety.runs import OwnedRun, RunHost, RunsServicer
from lrm_safety.settings import Settings
from lrm_safety.store import open_store
from lrm_safety.v1 import data_pb2, data_pb2_grpc, runs_pb2, runs_pb2_grpc
from services.data import builder, filter, source
from services.data.build import KIND, plan
from services.data.reading import read_examples

PLUGINS = {"builders": builder.FOLDER, "sources": source.FOLDER, "filters": filter.FOLDER}


def register(server: grpc.Server, settings: Settings) -> list[str]:
    """Adds DataService and Runs to the server; returns their full names."""
    service = DataService(settings)
    data_pb2_grpc.add_DataServiceServicer_to_server(service, server)
    runs_pb2_grpc.add_RunsServicer_to_server(RunsServicer(service.store), server)
    return [
        data_pb2.DESCRIPTOR.services_by_name["DataService"].full_name,
        runs_pb2.DESCRIPTOR.services_by_name["Runs"].full_name,
    ]


class DataService(data_pb2_grpc.DataServiceServicer):
    def __init__(self, settings: Settings) -> None:
        self.store = open_store(settings)
        self._settings = settings
        self._host = RunHost(self.store)

    def BuildDataset(self, request: BuildDatasetRequest, context: grpc.ServicerContext) -> Run:
        planned = plan(request.spec, self._settings, self.store)

        def work(run: OwnedRun) -> str:
            dataset = planned.carry_out(run, self.store, self._settings.state_dir / "data")
            return reference(dataset.name, dataset.digest)

        asked = RunSpec(dataset=planned.spec)
        return self._host.start("dataset", asked, work, *planned.inputs, tenant=tenancy.of(context))

    def GetDataset(self, request: GetDatasetRequest, context: grpc.ServicerContext) -> Dataset:
        return artefacts.find(self.store, KIND, Dataset, request.dataset)

    def ListDatasets(self, request: ListDatasetsRequest, context: grpc.ServicerContext) -> ListDatasetsResponse:
        return ListDatasetsResponse(datasets=artefacts.list_all(self.store, KIND, Dataset))

    def ReadExamples(self, request: ReadExamplesRequest, context: grpc.ServicerContext) -> Iterator[Example]:
        if request.limit < 0:
            raise InvalidInput(f"limit is {request.limit}; expected 0 for all, or a number above it")
        dataset = artefacts.find(self.store, KIND, Dataset, request.dataset)
        yield from read_examples(self.store, dataset, request.limit)

    def ListPlugins(self, request: ListPluginsRequest, context: grpc.ServicerContext) -> ListPluginsResponse:
        if request.kind not in PLUGINS:
            raise NotFound(f"DataService has no plugins {request.kind!r}; it has: {', '.join(PLUGINS)}")
        return ListPluginsResponse(plugins=registry.describe(PLUGINS[request.kind]))
