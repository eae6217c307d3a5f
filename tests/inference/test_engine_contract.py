"""What any engine must do, over the scripted one and the real ones with a tiny random model."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lrm_safety import artefacts
from lrm_safety.clients import Clients, rpc, rpc_stream
from lrm_safety.nouns import (
    Checkpoint,
    Completion,
    DeployRequest,
    EndpointState,
    EngineSpec,
    GenerateRequest,
    Prompt,
    RetireRequest,
    Sampling,
    user,
)
from lrm_safety.settings import Settings
from lrm_safety.store import ObjectStore
from services.inference import service
from tests.fakes import tiny_model
from tests.fakes.engine_process import install
from tests.inference.test_service import wait_until

STARTS_IN_S = 400


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.write(tmp_path_factory.mktemp("tiny"))


@dataclass
class Served:
    """A tiny model behind an engine."""

    clients: Clients
    engine: str

    def ask(self, *prompts: Prompt, **sampling: object) -> list[Completion]:
        """In the order of the prompts."""
        request = GenerateRequest(endpoint="tiny", prompts=prompts, sampling=Sampling(**sampling))
        got = {c.id: c for c in rpc_stream(self.clients.inference.Generate, request, timeout_s=120)}
        return [got[prompt.id] for prompt in prompts]


@pytest.fixture(
    params=[
        "scripted",
        pytest.param("vllm", marks=pytest.mark.slow),
        pytest.param("transformers", marks=pytest.mark.slow),
    ]
)
def served(
    request: pytest.FixtureRequest,
    tiny: Path,
    settings: Settings,
    store: ObjectStore,
    serve: Callable[..., object],
    clients: Clients,
    tmp_path: Path,
) -> Iterator[Served]:
    engine = request.param
    python = install(tmp_path / "bin") if engine == "scripted" else settings.vllm_python
    if engine == "vllm" and not python.exists():
        pytest.skip("needs .venv-vllm; `make setup` makes it")
    serve("inference", service.register, vllm_python=python)
    artefacts.publish(store, "checkpoints", tiny, Checkpoint(name="tiny"))
    spec = EngineSpec(engine="transformers" if engine == "transformers" else "vllm", max_model_tokens=256)
    rpc(clients.inference.Deploy, DeployRequest(name="tiny", checkpoint="tiny", engine=spec, think_style="none"))
    wait_until(clients, "tiny", EndpointState.ENDPOINT_STATE_READY, STARTS_IN_S)
    yield Served(clients, engine)
    rpc(clients.inference.Retire, RetireRequest(name="tiny"))


def test_the_contract(served: Served) -> None:
    """One test, because an engine takes a minute to start."""
    ask = served.ask
    hi, there = Prompt(id="a", messages=[user("hi")]), Prompt(id="b", messages=[user("there")])

    # as many tokens as asked for, and said so
    (cut,) = ask(hi, max_tokens=3)
    assert (cut.error, cut.finish_reason, cut.usage.completion_tokens) == ("", "length", 3)
    if (
        served.engine != "scripted"
    ):  # the tokens of <|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n, no BOS more
        assert cut.usage.prompt_tokens == len("user\nhi\nassistant\n") + 3

    # greedy again is the same text; the cache is kept out by another repeat
    again = Prompt(id="c", messages=[user("hi")], repeat=1)
    first, second = ask(hi, max_tokens=12), ask(again, max_tokens=12)
    assert first[0].answer == second[0].answer
    assert not second[0].cached

    # a prefill opens the turn and costs prompt tokens
    (filled,) = ask(Prompt(id="p", messages=[user("hi")], prefill="Sure"), max_tokens=5)
    assert filled.answer.startswith("Sure")
    if served.engine != "scripted":
        assert filled.usage.prompt_tokens == cut.usage.prompt_tokens + len("Sure")
        _check_sampling(ask, hi, there)


def _check_sampling(ask: Callable[..., list[Completion]], hi: Prompt, there: Prompt) -> None:
    # temperature is obeyed by each request, with the seed of its repeat
    repeats = [Prompt(id=str(i), messages=[user("hi")], repeat=i) for i in range(4)]
    sampled = ask(*repeats, max_tokens=12, temperature=1.0, seed=5)
    assert len({completion.answer for completion in sampled}) > 1
    same_seed = Prompt(id="s", messages=[user("hi")], repeat=1)
    (replayed,) = ask(same_seed, max_tokens=12, temperature=1.0, seed=5)
    assert replayed.answer == sampled[1].answer
    (greedy,) = ask(Prompt(id="g", messages=[user("hi")], repeat=9), max_tokens=12)
    assert greedy.answer == ask(hi, max_tokens=12)[0].answer

    # too long is an error of that prompt alone
    long = Prompt(id="long", messages=[user("x" * 600)])
    refused, fine = ask(long, there, max_tokens=5)
    assert fine.error == ""
    assert refused.error == "" or "context" in refused.error
