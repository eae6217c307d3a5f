"""JudgeService over gRPC: rules are applied here, judges that ask a model reach it through InferenceService."""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial

import grpc

from lrm_safety import observe, registry
from lrm_safety.clients import Clients, rpc, rpc_stream
from lrm_safety.errors import InvalidInput, LrmError
from lrm_safety.nouns import (
    Completion,
    GenerateRequest,
    GetEndpointRequest,
    ListPluginsRequest,
    ListPluginsResponse,
    Plugin,
    Prompt,
    Sampling,
    ScoreRequest,
    Verdict,
)
from lrm_safety.settings import Settings
from lrm_safety.v1 import judge_pb2
from lrm_safety.v1.judge_pb2_grpc import JudgeServiceServicer, add_JudgeServiceServicer_to_server
from services.judge.judge import FOLDER, ModelJudge, find
from services.judge.scoring import at_most, score


class JudgeService(JudgeServiceServicer):
    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def Score(self, request: ScoreRequest, context: grpc.ServicerContext) -> Iterator[Verdict]:
        """Raises NotFound for an unknown judge or endpoint, Unavailable when inference itself does not answer.

        An error of the engine for one item is that item's invalid verdict.
        """
        judge = find(request.judge.judge)
        started = time.monotonic()
        endpoint = request.judge.endpoint if isinstance(judge, ModelJudge) else ""
        if isinstance(judge, ModelJudge) and not endpoint:
            raise InvalidInput(f"judge {judge.name} asks a model; name a deployed one in the judge's `endpoint`")
        weights = self._weights_digest(endpoint) if endpoint else ""
        for _, verdict in score(judge, request.items, partial(self._ask, endpoint), weights):
            _count(verdict)
            yield verdict
        observe.timing("lrm_score_seconds", time.monotonic() - started, judge=judge.name)

    def ListPlugins(self, request: ListPluginsRequest, context: grpc.ServicerContext) -> ListPluginsResponse:
        if request.kind not in ("", "judges"):
            raise InvalidInput(f"the judge service has judges, no {request.kind!r}")
        plugins = registry.describe(FOLDER)
        for plugin in plugins:
            _describe(plugin)
        return ListPluginsResponse(plugins=plugins)

    def _ask(self, endpoint: str, prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[Completion]:
        request = GenerateRequest(endpoint=endpoint, prompts=prompts, sampling=sampling)
        return rpc_stream(self._clients.inference.Generate, request)

    def _weights_digest(self, endpoint: str) -> str:
        return rpc(self._clients.inference.GetEndpoint, GetEndpointRequest(name=endpoint)).weights_digest


def register(server: grpc.Server, settings: Settings) -> list[str]:
    """Adds JudgeService to the server; returns its full name."""
    add_JudgeServiceServicer_to_server(JudgeService(Clients(settings)), server)
    return [judge_pb2.DESCRIPTOR.services_by_name["JudgeService"].full_name]


def _describe(plugin: Plugin) -> None:
    """Not a judge that does not load: it stays listed, and says why when it is asked."""
    with suppress(LrmError):
        judge = find(plugin.name)
        plugin.digest = judge.digest()
        if isinstance(judge, ModelJudge):
            plugin.at_most.CopyFrom(at_most(judge))


def _count(verdict: Verdict) -> None:
    if verdict.invalid:
        observe.count("lrm_verdict_failed_total", judge=verdict.judge, reason=verdict.invalid.split(":")[0])
    else:
        observe.count("lrm_verdict_given_total", judge=verdict.judge, label=verdict.label)
