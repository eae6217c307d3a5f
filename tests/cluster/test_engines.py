"""Engines the whole way: service, cluster, init container with the weights, pods, completions, idling, waking."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lrm_safety import artefacts, costs
from lrm_safety.clients import Clients, rpc, rpc_stream
from lrm_safety.jobs.manifests import FETCHING_LABEL
from lrm_safety.nouns import (
    Checkpoint,
    Completion,
    DeployRequest,
    Endpoint,
    EndpointState,
    EngineSpec,
    GenerateRequest,
    GetEndpointRequest,
    Prompt,
    RetireRequest,
    user,
)
from lrm_safety.settings import Settings
from lrm_safety.store import ObjectStore
from services.inference import service
from tests.cluster.conftest import Cluster, until
from tests.fakes.engine_process import install


@pytest.fixture
def served(
    either: Cluster,
    settings: Settings,
    serve: Callable[..., object],
    clients: Clients,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Clients:
    """Clients of an inference service whose engines are pods with a scripted vLLM and an address each."""
    monkeypatch.setattr(either.node, "own_addresses", True)
    monkeypatch.setattr(either.node, "replaced", {**either.node.replaced, "python3": str(install(tmp_path / "bin"))})
    inside = either.settings(settings, tmp_path)
    places = {"jobs": inside.jobs, "cluster": inside.cluster, "kubeconfig": inside.kubeconfig}
    serve("inference", service.register, engine_idle_s=6.0, **places)
    return clients


@pytest.fixture
def model(store: ObjectStore, tmp_path: Path) -> Checkpoint:
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<e>", "chat_template": "{{ messages }}"}))
    return artefacts.publish(store, "checkpoints", folder, Checkpoint(name="model"))


def get(served: Clients) -> Endpoint:
    return rpc(served.inference.GetEndpoint, GetEndpointRequest(name="e"))


def ask(served: Clients, *texts: str) -> list[Completion]:
    prompts = [Prompt(id=text, messages=[user(text)]) for text in texts]
    request = GenerateRequest(endpoint="e", prompts=prompts)
    return list(rpc_stream(served.inference.Generate, request, timeout_s=60))


def reaching_the_store(cluster: Cluster) -> list[str]:
    """Names of the pods that the network lets reach it."""
    pods = cluster.api.list(cluster.path("pods"))
    return [pod["metadata"]["name"] for pod in pods if FETCHING_LABEL in pod["metadata"]["labels"]]


def test_replicas_are_served_idle_and_wake(
    either: Cluster, served: Clients, store: ObjectStore, model: Checkpoint, tmp_path: Path
) -> None:
    spec = EngineSpec(replicas=2, max_model_tokens=512)
    first = rpc(served.inference.Deploy, DeployRequest(name="e", checkpoint="model", engine=spec))
    seen: set[str] = set()

    def is_in(state: int) -> bool:
        endpoint = get(served)
        seen.add(endpoint.error)
        return endpoint.state == state

    until(lambda: is_in(EndpointState.ENDPOINT_STATE_READY))
    assert len(reaching_the_store(either)) < 2
    assert any(words.startswith("waiting: for ") for words in seen), seen
    answers = ask(served, *map(str, range(40)))
    assert sorted(int(answer.id) for answer in answers if not answer.error) == list(range(40))
    until(lambda: get(served) and not reaching_the_store(either))

    until(lambda: is_in(EndpointState.ENDPOINT_STATE_IDLE))
    until(lambda: not either.api.list(either.path("pods")))
    assert not either.api.list(either.path("apps/deployments"))
    until(lambda: (cost := costs.find(store, first.job)) and cost.ended_at > cost.started_at)

    (woken,) = ask(served, "after a while")
    assert woken.error == ""
    assert get(served).job == f"{first.job[:-1]}2"
    rpc(served.inference.Retire, RetireRequest(name="e"), 60)
    assert not either.api.list(either.path("pods"))
    assert not list((tmp_path / "state").rglob("*.safetensors"))  # the service itself fetched no weights


def test_wrong_bytes_never_reach_an_engine(
    either: Cluster, served: Clients, store: ObjectStore, model: Checkpoint
) -> None:
    store.write(f"checkpoints/model/{model.digest}/model.safetensors", b"another")
    rpc(served.inference.Deploy, DeployRequest(name="e", checkpoint="model"))
    until(lambda: get(served).state == EndpointState.ENDPOINT_STATE_FAILED)
    assert "sha256" in get(served).error
    rpc(served.inference.Retire, RetireRequest(name="e"), 60)
