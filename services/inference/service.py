"""InferenceService: unpacks a request, calls endpoints.py or generate.py, packs the answer."""

from collections.abc import Iterator

import grpc

from lrm_safety.errors import InvalidInput
from lrm_safety.jobs import open_runner
from lrm_safety.nouns import (
    Completion,
    DeployRequest,
    Endpoint,
    GenerateRequest,
    GetEndpointRequest,
    ListEndpointsRequest,
    ListEndpointsResponse,
    RetireRequest,
    Sampling,
)
from lrm_safety.settings import Settings
from lrm_safety.store import open_store
from lrm_safety.v1 import inference_pb2, inference_pb2_grpc
from services.inference.cache import CompletionCache
from services.inference.endpoints import Endpoints
from services.inference.generate import Generator

INFERENCE = inference_pb2.DESCRIPTOR.services_by_name["InferenceService"]
RANGES = {
    "temperature": (0.0, 10.0),
    "top_p": (0.0, 1.0),
    "max_tokens": (0, 1_000_000),
    "repetition_penalty": (0.0, 10.0),
}


def register(server: grpc.Server, settings: Settings) -> list[str]:
    """Adds InferenceService to a server; returns its full name."""
    inference_pb2_grpc.add_InferenceServiceServicer_to_server(InferenceServicer(settings), server)
    return [INFERENCE.full_name]


class InferenceServicer(inference_pb2_grpc.InferenceServiceServicer):
    def __init__(self, settings: Settings) -> None:
        store = open_store(settings)
        self._generator = Generator(CompletionCache(store), settings.api_key)
        self._endpoints = Endpoints(store, open_runner(settings), settings, self._generator.probe)

    def Deploy(self, request: DeployRequest, context: grpc.ServicerContext) -> Endpoint:
        return self._endpoints.deploy(request)

    def Retire(self, request: RetireRequest, context: grpc.ServicerContext) -> Endpoint:
        return self._endpoints.retire(request.name)

    def GetEndpoint(self, request: GetEndpointRequest, context: grpc.ServicerContext) -> Endpoint:
        return self._endpoints.get(request.name)

    def ListEndpoints(self, request: ListEndpointsRequest, context: grpc.ServicerContext) -> ListEndpointsResponse:
        return ListEndpointsResponse(endpoints=self._endpoints.list_all())

    def Generate(self, request: GenerateRequest, context: grpc.ServicerContext) -> Iterator[Completion]:
        check(request.sampling)
        target = self._endpoints.target(request.endpoint)

        def is_dead() -> str:
            return self._endpoints.trouble(self._endpoints.get(request.endpoint))

        work = self._generator.generate(target, list(request.prompts), request.sampling, is_dead)
        context.add_callback(work.cancel)
        yield from work


def check(sampling: Sampling) -> None:
    """Raises InvalidInput naming the field, its value and what is allowed."""
    for name, (low, high) in RANGES.items():
        value = getattr(sampling, name)
        if not low <= value <= high:
            raise InvalidInput(f"sampling.{name} is {value:g}; allowed: {low:g} to {high:g}")
