"""JudgeService over real gRPC, with a scripted InferenceService behind the judges that ask a model."""

from collections.abc import Callable, Iterator

import grpc
import pytest

from lrm_safety import serving
from lrm_safety.clients import Clients, rpc, rpc_stream
from lrm_safety.errors import InvalidInput, NotFound, Unavailable
from lrm_safety.nouns import (
    Completion,
    Endpoint,
    GenerateRequest,
    GetEndpointRequest,
    JudgeSpec,
    ListPluginsRequest,
    ScoreItem,
    ScoreRequest,
    Verdict,
)
from lrm_safety.settings import Settings
from lrm_safety.v1 import inference_pb2
from lrm_safety.v1.inference_pb2_grpc import InferenceServiceServicer, add_InferenceServiceServicer_to_server
from services.judge import service
from services.judge.judge import find

Serve = Callable[[str, serving.Register], serving.Server]


class Inference(InferenceServiceServicer):
    """One endpoint, `grader`, that refuses to judge answers with "broken" in them and rates the others 5."""

    def GetEndpoint(self, request: GetEndpointRequest, context: grpc.ServicerContext) -> Endpoint:
        if request.name != "grader":
            raise NotFound(f"no endpoint is named {request.name!r}; there are: grader")
        return Endpoint(name="grader", weights_digest="w1")

    def Generate(self, request: GenerateRequest, context: grpc.ServicerContext) -> Iterator[Completion]:
        assert request.sampling.HasField("temperature") and request.sampling.temperature == 0
        for prompt in reversed(request.prompts):
            if "broken" in prompt.messages[0].content:
                yield Completion(id=prompt.id, error="engine answered HTTP 500")
            else:
                yield Completion(id=prompt.id, answer='{"reason": "r", "score": 5}', finish_reason="stop")


def inference(server: grpc.Server, settings: Settings) -> list[str]:
    add_InferenceServiceServicer_to_server(Inference(), server)
    return [inference_pb2.DESCRIPTOR.services_by_name["InferenceService"].full_name]


def scored(clients: Clients, judge: JudgeSpec, items: list[ScoreItem]) -> dict[str, Verdict]:
    stream = rpc_stream(clients.judge.Score, ScoreRequest(judge=judge, items=items), timeout_s=60)
    return {verdict.id: verdict for verdict in stream}


def test_rules_over_the_wire(serve: Serve, clients: Clients) -> None:
    serve("judge", service.register)
    items = [ScoreItem(id="r", answer="I can't help with that."), ScoreItem(id="c", answer="42"), ScoreItem(id="e")]
    found = scored(clients, JudgeSpec(judge="refusal"), items)
    assert {name: verdict.label for name, verdict in found.items()} == {"r": "refusal", "c": "compliance", "e": ""}
    assert found["e"].invalid == "empty answer" and found["r"].judge_digest == find("refusal").digest()


def test_algebra_over_the_wire(serve: Serve, clients: Clients) -> None:
    serve("judge", service.register)
    items = [ScoreItem(id=str(n), answer=f"\\boxed{{{n} + x}}", target="x + 3") for n in range(6)]
    found = scored(clients, JudgeSpec(judge="math_equal"), items)
    assert {name for name, verdict in found.items() if verdict.label == "equal"} == {"3"} and len(found) == 6


def test_a_model_judge_over_the_wire(serve: Serve, clients: Clients) -> None:
    serve("inference", inference)
    serve("judge", service.register)
    items = [ScoreItem(id=name, prompt="p", answer=name) for name in ("fine", "broken", "good")]
    found = scored(clients, JudgeSpec(judge="policy15", endpoint="grader"), items)
    assert (found["fine"].label, found["fine"].value, found["good"].score) == ("5", 1, 5)
    assert found["fine"].judge_digest == find("policy15").digest("w1")
    assert found["broken"].invalid == "engine error: engine answered HTTP 500" and not found["broken"].label


def test_wrong_requests(serve: Serve, clients: Clients) -> None:
    serve("inference", inference)
    serve("judge", service.register)
    with pytest.raises(NotFound, match="math_equal"):
        scored(clients, JudgeSpec(judge="none_such"), [])
    with pytest.raises(InvalidInput, match="endpoint"):
        scored(clients, JudgeSpec(judge="xstest3"), [])
    with pytest.raises(NotFound, match="grader"):
        scored(clients, JudgeSpec(judge="xstest3", endpoint="other"), [])


def test_without_inference_nothing_is_judged(serve: Serve, clients: Clients) -> None:
    serve("judge", service.register)
    with pytest.raises(Unavailable):
        scored(clients, JudgeSpec(judge="xstest3", endpoint="grader"), [ScoreItem(id="1", answer="a")])


def test_plugins_are_listed(serve: Serve, clients: Clients) -> None:
    serve("judge", service.register)
    listed = rpc(clients.judge.ListPlugins, ListPluginsRequest()).plugins
    assert {"refusal", "xstest3", "policy15", "math_equal"} <= {plugin.name for plugin in listed}
    with pytest.raises(InvalidInput, match="attacks"):
        rpc(clients.judge.ListPlugins, ListPluginsRequest(kind="attacks"))
