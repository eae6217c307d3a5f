"""InferenceService: unpacks a request, calls endpoints.py or generate.py, packs the answer."""

import threading
from collections.abc import Callable, Iterator

import grpc

from lrm_safety import observe, serving, tenancy
from lrm_safety.errors import InvalidInput
from lrm_safety.jobs import JobRunner, open_runner
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
from lrm_safety.store import ObjectStore, open_store
from lrm_safety.v1 import inference_pb2, inference_pb2_grpc
from services.inference.cache import CompletionCache
from services.inference.endpoints import Endpoints
from services.inference.generate import Generator
from services.inference.needs import is_needed

log = observe.logger(__name__)
INFERENCE = inference_pb2.DESCRIPTOR.services_by_name["InferenceService"]
RANGES = {
    "temperature": (0.0, 10.0),
    "top_p": (0.0, 1.0),
    "max_tokens": (0, 1_000_000),
    "repetition_penalty": (0.0, 10.0),
}


def register(server: grpc.Server, settings: Settings) -> list[str]:
    """Adds InferenceService to a server; returns its full name."""
    servicer = InferenceServicer(open_store(settings), open_runner(settings), settings)
    inference_pb2_grpc.add_InferenceServiceServicer_to_server(servicer, server)
    serving.at_stop(server, servicer.close)
    return [INFERENCE.full_name]


class InferenceServicer(inference_pb2_grpc.InferenceServiceServicer):
    def __init__(self, store: ObjectStore, runner: JobRunner, settings: Settings) -> None:
        self._store, self._runner = store, runner
        self._generator = Generator(CompletionCache(store), settings.key_for)
        self._endpoints = Endpoints(store, runner, settings, self._generator.probe)
        uses = self._endpoints.uses
        self._beats = [Beat(uses.every_s / 6, uses.renew), Beat(uses.every_s, self._endpoints.round)]

    def close(self) -> None:
        """Engines go on; connections to them end."""
        for beat in self._beats:
            beat.stop()
        self._generator.close()
        self._runner.close()

    def Deploy(self, request: DeployRequest, context: grpc.ServicerContext) -> Endpoint:
        return self._endpoints.deploy(request, tenancy.of(context))

    def Retire(self, request: RetireRequest, context: grpc.ServicerContext) -> Endpoint:
        is_kept = request.unless_needed and is_needed(self._store, request.name)
        return self._endpoints.get(request.name) if is_kept else self._endpoints.retire(request.name)

    def GetEndpoint(self, request: GetEndpointRequest, context: grpc.ServicerContext) -> Endpoint:
        return self._endpoints.get(request.name)

    def ListEndpoints(self, request: ListEndpointsRequest, context: grpc.ServicerContext) -> ListEndpointsResponse:
        return ListEndpointsResponse(endpoints=self._endpoints.list_all())

    def Generate(self, request: GenerateRequest, context: grpc.ServicerContext) -> Iterator[Completion]:
        check(request.sampling)
        name = request.endpoint
        with self._endpoints.asked(name, context.is_active) as target:
            work = self._generator.generate(
                target, list(request.prompts), request.sampling, lambda: self._endpoints.replicas(name)
            )
            if not context.add_callback(work.cancel):  # gone while we waited
                work.cancel()
            yield from work


class Beat:
    """Something that is done every so often in a thread of its own, until stopped."""

    def __init__(self, every_s: float, work: Callable[[], None]) -> None:
        self._stopped = threading.Event()
        self._every_s, self._work = every_s, work
        threading.Thread(target=self._run, daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._every_s):
            try:
                self._work()
            except Exception as error:  # noqa: BLE001  whatever it was, the next beat tries again
                log.warning("beat_failed", work=self._work.__name__, kind=type(error).__name__, error=str(error))


def check(sampling: Sampling) -> None:
    """Raises InvalidInput naming the field, its value and what is allowed."""
    for name, (low, high) in RANGES.items():
        value = getattr(sampling, name)
        if not low <= value <= high:
            raise InvalidInput(f"sampling.{name} is {value:g}; allowed: {low:g} to {high:g}")
