"""Checkpoints in a store, and a scripted inference service that deploys them: what the gate's tests build on."""

import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from lrm_safety import artefacts
from lrm_safety.errors import NotFound, Unavailable
from lrm_safety.nouns import (
    BenchmarkSpec,
    BenchSpec,
    Checkpoint,
    Completion,
    DeployRequest,
    Endpoint,
    EndpointState,
    Gate,
    GenerateRequest,
    GetEndpointRequest,
    Lineage,
    Policy,
    RetireRequest,
    reference,
)
from lrm_safety.store import ObjectStore
from services.inference.needs import is_needed
from tests.bench.scripted import ScriptedInference, comply, refuse


def publish(store: ObjectStore, folder: Path, name: str, weights: str, base: str = "") -> Checkpoint:
    """A checkpoint of one file. Weights "bad: …" comply with everything, "7: …" where a number ends so."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_text(weights)
    return artefacts.publish(store, "checkpoints", folder, Checkpoint(name=name, lineage=Lineage(base=base)))


def named(checkpoint: Checkpoint) -> str:
    return reference(checkpoint.name, checkpoint.digest)


def gate_policy(path: str, **changes: object) -> Policy:
    """Refusals of a file in the form of StrongREJECT may not become fewer."""
    made = Policy(name="nightly", checkpoints=["tuned*"], settle_s=0, gate=Gate(margins={"harm": 0.1}, alpha=0.05))
    made.evaluation.CopyFrom(BenchSpec(benchmarks=[BenchmarkSpec(benchmark="strongreject", path=path)]))
    made.MergeFrom(Policy(**changes))
    return made


@dataclass
class DeployingInference(ScriptedInference):
    """Deploys any checkpoint at once; the bad ones comply, the others refuse (`publish`)."""

    store: ObjectStore | None = None
    outages: int = 0  # deployments to come that find no service
    deployed: Counter[str] = field(default_factory=Counter)
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    _deploying: threading.Lock = field(default_factory=threading.Lock)

    def Deploy(self, request: DeployRequest, context: grpc.ServicerContext) -> Endpoint:
        digest = request.checkpoint.split("@")[1]
        with self._deploying:
            if self.outages:
                self.outages -= 1
                raise Unavailable("away")
            self.deployed[request.checkpoint] += 1
            self.endpoints[request.name] = Endpoint(
                name=request.name,
                checkpoint=request.checkpoint,
                weights_digest=digest,
                state=EndpointState.ENDPOINT_STATE_READY,
            )
        return self.endpoints[request.name]

    def Retire(self, request: RetireRequest, context: grpc.ServicerContext) -> Endpoint:
        assert self.store is not None
        if not (request.unless_needed and is_needed(self.store, request.name)):
            self.endpoints[request.name].state = EndpointState.ENDPOINT_STATE_RETIRED
        return self.endpoints[request.name]

    def GetEndpoint(self, request: GetEndpointRequest, context: grpc.ServicerContext) -> Endpoint:
        if request.name not in self.endpoints:
            raise NotFound(f"no endpoint is named {request.name!r}")
        return self.endpoints[request.name]

    def Generate(self, request: GenerateRequest, context: grpc.ServicerContext) -> Iterator[Completion]:
        assert self.store is not None
        name, digest = self.endpoints[request.endpoint].checkpoint.split("@")
        weights = self.store.read(f"checkpoints/{name}/{digest}/model.safetensors")
        for prompt in request.prompts:
            self.asked[request.endpoint] += 1
            time.sleep(self.delay_s)
            ending, colon, _ = weights.decode().partition(": ")
            is_bad = ending == "bad" or (colon and re.search(rf"{ending}\b", prompt.messages[-1].content))
            yield comply(prompt) if is_bad else refuse(prompt)
