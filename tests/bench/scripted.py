"""An inference and a judge service of a few lines, which do what a test tells them to: real servers, no models."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import grpc

from lrm_safety.errors import NotFound, Unavailable
from lrm_safety.nouns import (
    Completion,
    Endpoint,
    EndpointState,
    GenerateRequest,
    GetEndpointRequest,
    ListPluginsRequest,
    ListPluginsResponse,
    Plugin,
    Prompt,
    ScoreItem,
    ScoreRequest,
    ThinkState,
    Usage,
    Verdict,
)
from lrm_safety.settings import Settings
from lrm_safety.v1.inference_pb2 import DESCRIPTOR as INFERENCE
from lrm_safety.v1.inference_pb2_grpc import InferenceServiceServicer, add_InferenceServiceServicer_to_server
from lrm_safety.v1.judge_pb2 import DESCRIPTOR as JUDGE
from lrm_safety.v1.judge_pb2_grpc import JudgeServiceServicer, add_JudgeServiceServicer_to_server

REFUSAL = "I'm sorry, but I can't help with that."


def refuse(prompt: Prompt) -> Completion:
    return answered(prompt, REFUSAL)


def comply(prompt: Prompt) -> Completion:
    return answered(prompt, "Sure: one, two, three.")


def answered(prompt: Prompt, answer: str) -> Completion:
    return Completion(
        id=prompt.id,
        answer=answer,
        think_state=ThinkState.THINK_STATE_ABSENT,
        finish_reason="stop",
        usage=Usage(prompt_tokens=10, completion_tokens=5),
    )


@dataclass
class ScriptedInference(InferenceServiceServicer):
    """Endpoints `base` and `tuned`; answers with `script`, after `delay_s`; what it was asked is in `asked`."""

    script: Callable[[Prompt], Completion] = refuse
    delay_s: float = 0.0
    state: int = EndpointState.ENDPOINT_STATE_READY
    is_down: bool = False
    url: str = "http://localhost:1/v1"
    asked: Counter[str] = field(default_factory=Counter)
    prompts: dict[str, Prompt] = field(default_factory=dict)
    max_tokens: set[int] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def register(self, server: grpc.Server, settings: Settings) -> list[str]:
        add_InferenceServiceServicer_to_server(self, server)
        return [INFERENCE.services_by_name["InferenceService"].full_name]

    def GetEndpoint(self, request: GetEndpointRequest, context: grpc.ServicerContext) -> Endpoint:
        if request.name not in ("base", "tuned"):
            raise NotFound(f"no endpoint is named {request.name!r}; there are: base, tuned")
        return Endpoint(
            name=request.name,
            url=self.url,
            state=self.state,
            weights_digest=f"digest-{request.name}",
            checkpoint=f"{request.name}@digest",
        )

    def Generate(self, request: GenerateRequest, context: grpc.ServicerContext) -> Iterator[Completion]:
        if self.is_down:
            raise Unavailable("the engine's process is gone")
        with self._lock:
            self.max_tokens.add(request.sampling.max_tokens)
            self.asked.update(prompt.id for prompt in request.prompts)
            self.prompts.update({prompt.id: prompt for prompt in request.prompts})
        for prompt in request.prompts:
            time.sleep(self.delay_s)
            yield self.script(prompt)


def rules(item: ScoreItem) -> Verdict:
    refused = "sorry" in item.answer
    return Verdict(id=item.id, label="refusal" if refused else "compliance", value=float(refused), measure="refusal")


def equal(item: ScoreItem) -> Verdict:
    right = item.answer == item.target
    return Verdict(id=item.id, label="equal" if right else "different", value=float(right), measure="correct")


@dataclass
class ScriptedJudge(JudgeServiceServicer):
    """Judges `refusal`, `math_equal` and `second` (like refusal), unless `judges` says otherwise."""

    judges: dict[str, Callable[[ScoreItem], Verdict | None]] = field(
        default_factory=lambda: {"refusal": rules, "math_equal": equal, "second": rules}
    )
    is_down: bool = False
    digest: str = "judge-digest"
    judged: Counter[str] = field(default_factory=Counter)

    def register(self, server: grpc.Server, settings: Settings) -> list[str]:
        add_JudgeServiceServicer_to_server(self, server)
        return [JUDGE.services_by_name["JudgeService"].full_name]

    def Score(self, request: ScoreRequest, context: grpc.ServicerContext) -> Iterator[Verdict]:
        if self.is_down:
            raise Unavailable("the judge's model is gone")
        self.judged.update(item.id for item in request.items)
        for item in request.items:
            verdict = self.judges[request.judge.judge](item)
            if verdict is not None:
                verdict.judge_digest = self.digest
                yield verdict

    def ListPlugins(self, request: ListPluginsRequest, context: grpc.ServicerContext) -> ListPluginsResponse:
        return ListPluginsResponse(plugins=[Plugin(name=name) for name in self.judges])
