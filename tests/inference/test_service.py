"""InferenceService over real gRPC: URLs and checkpoints deployed, completions streamed, failures told apart."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lrm_safety.clients import Clients, rpc, rpc_stream
from lrm_safety.errors import Conflict, Corrupt, InvalidInput, NotFound, Unavailable
from lrm_safety.jobs import open_runner
from lrm_safety.nouns import (
    BenchmarkSpec,
    BenchSpec,
    Completion,
    DeployRequest,
    Endpoint,
    EndpointState,
    GenerateRequest,
    GetEndpointRequest,
    JudgeSpec,
    ListEndpointsRequest,
    Message,
    Prompt,
    RetireRequest,
    RunSpec,
    Sampling,
    ThinkState,
    has_ended,
    user,
)
from lrm_safety.runs import RunHost
from lrm_safety.settings import Settings
from lrm_safety.store import ObjectStore
from services.inference import service
from tests.fakes.scripted_engine import ScriptedEngine
from tests.inference.conftest import Publish

READY, FAILED = EndpointState.ENDPOINT_STATE_READY, EndpointState.ENDPOINT_STATE_FAILED


def prompt(id_: str, text: str = "hi", **more: object) -> Prompt:
    return Prompt(id=id_, messages=[user(text)], **more)


def generate(served: Clients, name: str, prompts: list[Prompt], **sampling: object) -> list[Completion]:
    request = GenerateRequest(endpoint=name, prompts=prompts, sampling=Sampling(**sampling))
    return list(rpc_stream(served.inference.Generate, request, timeout_s=60))


def get(served: Clients, name: str) -> Endpoint:
    return rpc(served.inference.GetEndpoint, GetEndpointRequest(name=name))


def wait_until(served: Clients, name: str, state: int, within_s: float = 60) -> Endpoint:
    deadline = time.monotonic() + within_s
    while (endpoint := get(served, name)).state != state:
        assert time.monotonic() < deadline, endpoint
        time.sleep(0.1)
    return endpoint


def deploy(served: Clients, **request: object) -> Endpoint:
    return rpc(served.inference.Deploy, DeployRequest(**request))


@pytest.fixture
def at_url(served: Clients, scripted_engine: ScriptedEngine) -> ScriptedEngine:
    """The scripted engine, deployed by its URL as "it"."""
    endpoint = deploy(served, name="it", url=scripted_engine.url)
    assert (endpoint.state, endpoint.model, endpoint.engine) == (READY, "scripted", "vendor")
    return scripted_engine


class TestGenerate:
    def test_thinking_and_answer_come_apart(self, served: Clients, at_url: ScriptedEngine) -> None:
        (got,) = generate(served, "it", [prompt("a", "hello", repeat=2)], seed=40)
        assert (got.id, got.thinking, got.answer) == ("a", "about: hello", "answer to: hello")
        assert (got.think_state, got.finish_reason, got.seed) == (ThinkState.THINK_STATE_CLOSED, "stop", 42)
        assert (got.usage.prompt_tokens, got.cached, got.error) == (7, False, "")
        assert got.latency_s > 0

    def test_completions_come_in_the_order_they_finish(self, served: Clients, at_url: ScriptedEngine) -> None:
        at_url.delay_s = lambda messages: 0.6 if messages[0]["content"] == "slow" else 0.0
        ids = [c.id for c in generate(served, "it", [prompt("1", "slow"), prompt("2", "b"), prompt("3", "c")])]
        assert ids[-1] == "1"
        assert sorted(ids) == ["1", "2", "3"]

    def test_a_second_call_comes_from_the_cache(self, served: Clients, at_url: ScriptedEngine) -> None:
        first = generate(served, "it", [prompt("a")])
        second = generate(served, "it", [prompt("other id, same question")])
        assert len(at_url.requests) == 1
        assert (second[0].cached, second[0].latency_s) == (True, 0)
        assert (second[0].answer, second[0].id) == (first[0].answer, "other id, same question")
        generate(served, "it", [prompt("a")], temperature=0.5)
        assert len(at_url.requests) == 2

    def test_repeats_are_asked_each(self, served: Clients, at_url: ScriptedEngine) -> None:
        got = generate(served, "it", [prompt(str(i), repeat=i) for i in range(3)], temperature=1.0, seed=10)
        assert sorted(c.seed for c in got) == [10, 11, 12]
        assert sorted(body["seed"] for body in at_url.requests) == [10, 11, 12]
        assert not any(c.cached for c in got)

    def test_an_error_is_data_and_is_not_kept(self, served: Clients, at_url: ScriptedEngine) -> None:
        at_url.fail(400)
        (got,) = generate(served, "it", [prompt("a")])
        assert "400" in got.error
        assert "SECRET-PROMPT" not in got.error
        assert (got.answer, got.finish_reason) == ("", "")
        (again,) = generate(served, "it", [prompt("a")])
        assert (again.error, again.cached) == ("", False)

    def test_one_bad_prompt_does_not_hurt_the_others(self, served: Clients, at_url: ScriptedEngine) -> None:
        got = {c.id: c for c in generate(served, "it", [Prompt(id="empty"), prompt("good")])}
        assert "no messages" in got["empty"].error
        assert got["good"].answer

    def test_a_passing_failure_is_retried(self, served: Clients, at_url: ScriptedEngine) -> None:
        at_url.fail(500)
        at_url.fail("drop")
        assert all(c.answer and not c.error for c in generate(served, "it", [prompt("a"), prompt("b", "b")]))

    def test_prefill_is_part_of_the_turn(self, served: Clients, at_url: ScriptedEngine) -> None:
        at_url.reply = lambda messages: " it is: one"
        (got,) = generate(served, "it", [prompt("a", prefill="Sure, here")])
        assert got.answer == "Sure, here it is: one"
        assert at_url.requests[0]["messages"][-1] == {"role": "assistant", "content": "Sure, here"}

    def test_stops_end_the_answer_not_the_thought(self, served: Clients, at_url: ScriptedEngine) -> None:
        at_url.reply = lambda messages: "<think>a STOP b</think>c STOP d"
        (got,) = generate(served, "it", [prompt("a")], stop=["STOP"])
        assert (got.thinking, got.answer) == ("a STOP b", "c")
        assert "stop" not in at_url.requests[0]

    def test_a_dead_engine_is_said_so(self, served: Clients, at_url: ScriptedEngine) -> None:
        at_url.stop()
        with pytest.raises(Unavailable, match="lrm deploy"):
            generate(served, "it", [prompt("a")])
        assert get(served, "it").state == FAILED

    def test_an_engine_that_dies_meanwhile_is_said_so(self, served: Clients, at_url: ScriptedEngine) -> None:
        at_url.delay_s = lambda messages: 0.0 if messages[0]["content"] == "quick" else 30.0
        prompts = [prompt("q", "quick"), *(prompt(str(i), str(i)) for i in range(5))]
        stream = rpc_stream(served.inference.Generate, GenerateRequest(endpoint="it", prompts=prompts), timeout_s=60)
        assert next(stream).id == "q"
        at_url.stop()
        with pytest.raises(Unavailable, match="it is dead"):
            list(stream)

    def test_leaving_ends_the_work(self, served: Clients, at_url: ScriptedEngine) -> None:
        at_url.delay_s = lambda messages: 0.0 if messages[0]["content"] == "quick" else 30.0
        request = GenerateRequest(endpoint="it", prompts=[prompt("q", "quick"), prompt("s", "slow")])
        stream = rpc_stream(served.inference.Generate, request)
        next(stream)
        stream.close()
        _until(lambda: at_url.in_flight == 0)

    @pytest.mark.parametrize("field", [{"temperature": -1}, {"top_p": 1.5}, {"max_tokens": -3}])
    def test_sampling_is_checked(self, served: Clients, at_url: ScriptedEngine, field: dict[str, float]) -> None:
        with pytest.raises(InvalidInput, match=next(iter(field))):
            generate(served, "it", [prompt("a")], **field)


class TestUrls:
    def test_nobody_answers(self, served: Clients, scripted_engine: ScriptedEngine) -> None:
        scripted_engine.stop()
        with pytest.raises(Unavailable, match="nothing answers"):
            deploy(served, name="it", url=scripted_engine.url)
        with pytest.raises(NotFound, match="none yet"):
            get(served, "it")

    def test_a_name_is_not_taken_twice(self, served: Clients, at_url: ScriptedEngine) -> None:
        assert deploy(served, name="it", url=at_url.url).state == READY
        with pytest.raises(Conflict, match="lrm retire it"):
            deploy(served, name="it", url=at_url.url, model="another")

    def test_retired_is_retired(self, served: Clients, at_url: ScriptedEngine) -> None:
        rpc(served.inference.Retire, RetireRequest(name="it"))
        (listed,) = rpc(served.inference.ListEndpoints, ListEndpointsRequest()).endpoints
        assert listed.state == EndpointState.ENDPOINT_STATE_RETIRED
        with pytest.raises(Unavailable, match="retired"):
            generate(served, "it", [prompt("a")])
        assert deploy(served, name="it", url=at_url.url).state == READY

    def test_who_is_done_with_it_leaves_it_to_those_who_ask_it(
        self, served: Clients, at_url: ScriptedEngine, store: ObjectStore
    ) -> None:
        host, goes_on = RunHost(store), threading.Event()
        judged = BenchmarkSpec(benchmark="strongreject", judges=[JudgeSpec(judge="strongreject", endpoint="it")])
        spec = RunSpec(bench=BenchSpec(endpoint="other", benchmarks=[judged]))
        run = host.start("bench", spec, lambda run: "" if goes_on.wait(60) else "late")
        done_with = RetireRequest(name="it", unless_needed=True)
        assert rpc(served.inference.Retire, done_with).state == READY
        goes_on.set()
        while not has_ended(host.get(run.id)):
            time.sleep(0.05)
        assert rpc(served.inference.Retire, done_with).state == EndpointState.ENDPOINT_STATE_RETIRED

    @pytest.mark.parametrize(
        ("request_", "said"),
        [
            ({"name": "a/b", "url": "http://x/v1"}, "endpoint name"),
            ({"name": "a"}, "either a checkpoint"),
            ({"name": "a", "url": "localhost:1"}, "http://"),
            ({"name": "a", "url": "http://x/v1", "think_style": "xml"}, "think style"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, served: Clients, request_: dict[str, str], said: str) -> None:
        with pytest.raises(InvalidInput, match=said):
            deploy(served, **request_)


class TestCheckpoints:
    @pytest.fixture(autouse=True)
    def no_engine_is_left(self, scripted_settings: Settings, served: Clients) -> Iterator[None]:
        yield
        for endpoint in rpc(served.inference.ListEndpoints, ListEndpointsRequest()).endpoints:
            rpc(served.inference.Retire, RetireRequest(name=endpoint.name))

    def test_a_checkpoint_is_served_as_it_was_trained(self, served: Clients, publish: Publish) -> None:
        """The rendered text is what is posted; a thought that the template opens is a thought."""
        made = publish("thinker", opening="<think>\n")
        endpoint = deploy(served, name="t", checkpoint="thinker")
        assert (endpoint.state, endpoint.engine) == (EndpointState.ENDPOINT_STATE_STARTING, "vllm")
        assert (endpoint.checkpoint, endpoint.weights_digest) == (f"thinker@{made.digest}", made.digest)
        wait_until(served, "t", READY)
        messages = [Message(role="system", content="be kind"), user("hi")]
        (got,) = generate(served, "t", [Prompt(id="a", messages=messages)])
        text = "<|system|>be kind<|end|>\n<|user|>hi<|end|>\n<|assistant|><think>\n"
        assert got.thinking == f"about: {text}".strip()
        assert got.answer == f"answer to: {text}".strip()
        (got,) = generate(served, "t", [prompt("b", prefill="<think>\nI know")])
        assert got.thinking.startswith("I know")
        assert "<think>\nI know" in got.answer  # the fake quotes what it was sent: one opening tag
        assert "<think>\n<think>" not in got.answer

    def test_a_killed_engine_is_started_again(
        self, served: Clients, publish: Publish, scripted_settings: Settings
    ) -> None:
        publish("one")
        first = deploy(served, name="e", checkpoint="one")
        assert deploy(served, name="e", checkpoint="one").job == first.job
        wait_until(served, "e", READY)
        publish("two")
        with pytest.raises(Conflict, match="lrm retire e"):
            deploy(served, name="e", checkpoint="two")
        open_runner(scripted_settings).cancel(first.job, grace_s=0)
        with pytest.raises(Unavailable, match="lrm deploy"):
            generate(served, "e", [prompt("a")])
        second = deploy(served, name="e", checkpoint="one")
        assert second.job != first.job
        wait_until(served, "e", READY)
        assert generate(served, "e", [prompt("a")])[0].answer

    def test_a_restarted_service_finds_its_engines(
        self,
        served: Clients,
        publish: Publish,
        store: ObjectStore,
        scripted_settings: Settings,
    ) -> None:
        publish("one")
        deploy(served, name="e", checkpoint="one")
        wait_until(served, "e", READY)
        again = service.InferenceServicer(store, open_runner(scripted_settings), scripted_settings)
        found = again.GetEndpoint(GetEndpointRequest(name="e"), None)  # type: ignore[arg-type]
        assert found.state == READY
        again.close()

    def test_a_flipped_byte_is_refused(self, served: Clients, publish: Publish, tmp_path: Path) -> None:
        made = publish("one")
        weights = tmp_path / "store" / "checkpoints" / "one" / made.digest / "model.safetensors"
        data = bytearray(weights.read_bytes())
        data[7] ^= 1
        weights.write_bytes(data)
        with pytest.raises(Corrupt, match=r"model\.safetensors"):
            deploy(served, name="e", checkpoint="one")
        with pytest.raises(NotFound):
            get(served, "e")

    def test_an_engine_that_cannot_start_says_why(self, served: Clients, publish: Publish) -> None:
        publish("broken", scripted="crash")
        deploy(served, name="e", checkpoint="broken")
        failed = wait_until(served, "e", FAILED)
        assert "ValueError: the model's architecture is not supported" in failed.error

    def test_a_second_engine_waits_for_room(self, served: Clients, publish: Publish) -> None:
        publish("one")
        deploy(served, name="first", checkpoint="one")
        wait_until(served, "first", READY)
        deploy(served, name="second", checkpoint="one")
        _until(lambda: "waiting" in get(served, "second").error)
        rpc(served.inference.Retire, RetireRequest(name="first"))
        wait_until(served, "second", READY)

    def test_an_unknown_checkpoint_names_those_there_are(self, served: Clients, publish: Publish) -> None:
        publish("one")
        with pytest.raises(NotFound, match="one"):
            deploy(served, name="e", checkpoint="two")


def _until(holds: Callable[[], bool], within_s: float = 20) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
