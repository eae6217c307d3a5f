"""The lean client against a scripted server: what it sends, what it retries, what its errors say."""

import time

import pytest

from lrm_safety.chat_client import ChatRequest, Reply, complete_all, joined_reasoning
from lrm_safety.errors import InvalidInput, LrmError, Unavailable
from lrm_safety.nouns import Message, Sampling, user
from tests.fakes.scripted_engine import ScriptedEngine, scripted_engine  # noqa: F401  (a fixture)

ASK = ChatRequest("scripted", messages=[user("2+2?")])


def ask(url: str, request: ChatRequest = ASK, timeout_s: float = 20) -> Reply | LrmError:
    return next(complete_all(url, [request], timeout_s=timeout_s, attempts=2))[1]


def test_a_reply_has_text_reason_usage_and_latency(scripted_engine: ScriptedEngine) -> None:  # noqa: F811
    scripted_engine.reply = lambda messages: "it is four"
    scripted_engine.finish_reason = "length"
    reply = ask(scripted_engine.url)
    assert isinstance(reply, Reply)
    assert (reply.text, reply.finish_reason) == ("it is four", "length")
    assert (reply.prompt_tokens, reply.completion_tokens) == (7, 3)
    assert reply.latency_s > 0


def test_the_defaults_are_written_out(scripted_engine: ScriptedEngine) -> None:  # noqa: F811
    ask(scripted_engine.url)
    (body,) = scripted_engine.requests
    assert body["messages"] == [{"role": "user", "content": "2+2?"}]
    assert (body["temperature"], body["top_p"], body["max_tokens"], body["seed"]) == (0, 1, 512, 0)
    assert not {"stop", "repetition_penalty", "continue_final_message"} & set(body)


def test_sampling_prefill_and_extra_are_sent(scripted_engine: ScriptedEngine) -> None:  # noqa: F811
    sampling = Sampling(temperature=0.7, top_p=0.9, max_tokens=5, seed=3, stop=["X"], repetition_penalty=1.2)
    messages = [Message(role="system", content="be kind"), user("hi")]
    ask(scripted_engine.url, ChatRequest("m", messages, prefill="Sure", sampling=sampling, extra={"top_k": 5}))
    (body,) = scripted_engine.requests
    assert body["messages"][-1] == {"role": "assistant", "content": "Sure"}
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    assert [body[name] for name in ("temperature", "top_p", "seed", "stop", "repetition_penalty", "top_k")] == [
        0.7, 0.9, 3, ["X"], 1.2, 5,
    ]  # fmt: skip


def test_rendered_text_is_sent_as_it_is(scripted_engine: ScriptedEngine) -> None:  # noqa: F811
    reply = ask(scripted_engine.url, ChatRequest("m", text="<|user|>hi<|assistant|>"))
    assert isinstance(reply, Reply)
    assert scripted_engine.requests[0]["prompt"] == "<|user|>hi<|assistant|>"
    assert "messages" not in scripted_engine.requests[0]


@pytest.mark.parametrize("how", [500, 503, 429, "drop"])
def test_what_may_pass_is_asked_again(scripted_engine: ScriptedEngine, how: int | str) -> None:  # noqa: F811
    scripted_engine.fail(how)
    assert isinstance(ask(scripted_engine.url), Reply)
    assert len(scripted_engine.requests) == 2


@pytest.mark.parametrize("status", [400, 401, 404, 422])
def test_a_refused_request_is_not_asked_again(scripted_engine: ScriptedEngine, status: int) -> None:  # noqa: F811
    scripted_engine.fail(status)
    error = ask(scripted_engine.url)
    assert isinstance(error, InvalidInput)
    assert str(status) in str(error)
    assert "SECRET-PROMPT" not in str(error)
    assert len(scripted_engine.requests) == 1


def test_retries_are_bounded(scripted_engine: ScriptedEngine) -> None:  # noqa: F811
    scripted_engine.fail(429, times=50)
    error = ask(scripted_engine.url)
    assert isinstance(error, Unavailable)
    assert len(scripted_engine.requests) == 2


def test_a_dead_engine_is_named(scripted_engine: ScriptedEngine) -> None:  # noqa: F811
    scripted_engine.stop()
    error = ask(scripted_engine.url)
    assert isinstance(error, Unavailable)
    assert scripted_engine.url in str(error)


def test_a_hung_engine_is_given_up(scripted_engine: ScriptedEngine) -> None:  # noqa: F811
    scripted_engine.fail("hang")
    started = time.monotonic()
    error = ask(scripted_engine.url, timeout_s=0.5)
    assert isinstance(error, Unavailable)
    assert "0.5 s" in str(error)
    assert time.monotonic() - started < 5


def test_garbage_is_no_reply(scripted_engine: ScriptedEngine) -> None:  # noqa: F811
    scripted_engine.fail("garbage")
    assert "OpenAI-compatible" in str(ask(scripted_engine.url))


def test_all_are_answered_in_the_order_they_finish(scripted_engine: ScriptedEngine) -> None:  # noqa: F811
    scripted_engine.delay_s = lambda messages: 0.5 if messages[0]["content"] == "0" else 0.0
    requests = [ChatRequest("m", messages=[user(str(i))]) for i in range(20)]
    order = [index for index, _ in complete_all(scripted_engine.url, requests, window=4)]
    assert sorted(order) == list(range(20))
    assert order[-1] == 0
    assert scripted_engine.peak <= 4


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": "a"}, "a"),
        ({"content": None}, ""),
        ({"content": None, "refusal": "no"}, "no"),
        ({"content": "a", "reasoning": "t"}, "<think>\nt\n</think>\n\na"),
        ({"content": "a", "reasoning_content": "t"}, "<think>\nt\n</think>\n\na"),
        ({"content": None, "reasoning": "t"}, "<think>\nt"),
    ],
)
def test_a_separate_thought_is_joined_back(message: dict[str, str | None], text: str) -> None:
    assert joined_reasoning(message) == text
