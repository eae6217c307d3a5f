"""The lean HTTP client for OpenAI-compatible engines: one request in, one raw text out, honest errors.

    async with ChatClient("http://localhost:8000/v1") as client:
        reply = await client.complete(ChatRequest(model="m", messages=[user("2+2?")]))
    for index, reply in complete_all("http://localhost:8000/v1", requests): ...      # the same from sync code

Raises Unavailable (nobody answers, timeout, still 429 or 5xx after retries), InvalidInput (the engine refused the
request: asking again would not help). No error quotes a prompt or an answer.
"""

import asyncio
import json
import math
import queue
import re
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import aiohttp
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt

from lrm_safety.errors import InvalidInput, LrmError, Unavailable
from lrm_safety.nouns import Message, Sampling

DEFAULT_MAX_TOKENS = 512
FINISH_REASONS = ("stop", "length", "content_filter")
LONGEST_WAIT_S = 30.0
_SAFE_CODE = re.compile(r"[\w.\-]{1,60}")


@dataclass(frozen=True)
class ChatRequest:
    """What one completion is asked with. `text` set: the rendered prompt, sent as it is instead of the messages."""

    model: str
    messages: Sequence[Message] = ()
    text: str = ""
    prefill: str = ""  # opening of the assistant's turn that the engine continues; with `text` it is in there already
    sampling: Sampling = field(default_factory=Sampling)
    extra: Mapping[str, Any] = field(default_factory=dict)  # fields that only this engine knows

    def route(self) -> str:
        return "/completions" if self.text else "/chat/completions"

    def body(self) -> dict[str, Any]:
        """The JSON that is posted. Unset sampling means greedy, DEFAULT_MAX_TOKENS."""
        body: dict[str, Any] = {"model": self.model, **sampling_fields(self.sampling)}
        if self.text:
            return {**body, "prompt": self.text, **self.extra}
        messages = [{"role": m.role, "content": m.content} for m in self.messages]
        if self.prefill:
            messages.append({"role": "assistant", "content": self.prefill})
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        return {**body, "messages": messages, **self.extra}


@dataclass(frozen=True)
class Reply:
    text: str  # what the model wrote after the prompt; a separate reasoning field is joined back in think tags
    finish_reason: str  # one of FINISH_REASONS
    prompt_tokens: int = 0
    completion_tokens: int = 0
    latency_s: float = 0.0


def sampling_fields(sampling: Sampling) -> dict[str, Any]:
    """Sampling as request fields, its defaults written out."""
    fields: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p if sampling.HasField("top_p") else 1.0,
        "max_tokens": sampling.max_tokens or DEFAULT_MAX_TOKENS,
        "seed": sampling.seed,
    }
    if sampling.stop:
        fields["stop"] = list(sampling.stop)
    if sampling.repetition_penalty not in (0, 1):
        fields["repetition_penalty"] = sampling.repetition_penalty
    return fields


class ChatClient:
    """One engine. Used inside one event loop; connects when first asked and stays so until `async with` ends."""

    def __init__(self, url: str, *, api_key: str = "", timeout_s: float = 900.0, attempts: int = 5) -> None:
        self.url = url.rstrip("/")
        self._timeout_s, self._attempts = timeout_s, attempts
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def complete(self, request: ChatRequest, attempts: int = 0) -> Reply:
        """Posts the request, retrying what may pass: connection errors, 408, 429 (Retry-After), 5xx.

        `attempts` other than 0 replaces the client's own. Raises Passing when all are used up.
        """
        started = time.monotonic()
        async for attempt in AsyncRetrying(
            stop=stop_after_attempt(attempts or self._attempts),
            retry=retry_if_exception_type(Passing),
            wait=_wait_s,
            reraise=True,
        ):
            with attempt:
                reply = await self._post(request)
        return Reply(*reply, latency_s=time.monotonic() - started)

    async def get(self, url: str, timeout_s: float = 3.0) -> tuple[int, str]:
        """(status, text) of a GET, e.g. of /health; status 0 when nobody answers in time."""
        try:
            async with self._opened().get(url, timeout=aiohttp.ClientTimeout(total=timeout_s)) as response:
                return response.status, await response.text(errors="replace")
        except (aiohttp.ClientError, TimeoutError):
            return 0, ""

    async def _post(self, request: ChatRequest) -> tuple[str, str, int, int]:
        async with self._connected(request.route()) as post, post(request.body()) as response:
            if response.status != 200:
                raise refusal(self.url, response.status, response.headers.get("Retry-After"), await response.text())
            return read_reply(self.url, await response.text())

    @asynccontextmanager
    async def _connected(self, route: str) -> AsyncIterator[Any]:
        """Turns what goes wrong on the wire into our errors."""
        try:
            yield lambda body: self._opened().post(self.url + route, json=body)
        except (aiohttp.ClientError, UnicodeDecodeError) as error:
            what = f"nothing usable answers at {self.url} ({type(error).__name__})"
            raise Passing(f"{what}; is the engine dead? deploy it again") from None
        except TimeoutError:
            raise Unavailable(f"{self.url} gave no answer within {self._timeout_s:g} s; is the engine hung?") from None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=self._timeout_s, sock_connect=10)
            connector = aiohttp.TCPConnector(limit=0)
            self._session = aiohttp.ClientSession(timeout=timeout, connector=connector, headers=self._headers)
        return self._session


def complete_all(
    url: str,
    requests: Sequence[ChatRequest],
    *,
    api_key: str = "",
    window: int = 16,
    timeout_s: float = 900.0,
    attempts: int = 5,
) -> Iterator[tuple[int, Reply | LrmError]]:
    """(index, reply or error) of every request in the order they finish, at most `window` in flight; for sync code."""
    done: queue.SimpleQueue[tuple[int, Reply | LrmError] | None] = queue.SimpleQueue()

    async def work() -> None:
        places = asyncio.Semaphore(window)
        engine = ChatClient(url, api_key=api_key, timeout_s=timeout_s, attempts=attempts)
        async with engine as client, asyncio.TaskGroup() as tasks:
            for index, request in enumerate(requests):
                await places.acquire()
                tasks.create_task(one(client, index, request)).add_done_callback(lambda _: places.release())

    async def one(client: ChatClient, index: int, request: ChatRequest) -> None:
        try:
            done.put((index, await client.complete(request)))
        except LrmError as error:
            done.put((index, error))

    def run() -> None:
        try:
            asyncio.run(work())
        finally:
            done.put(None)

    threading.Thread(target=run, name="chat-client", daemon=True).start()
    yield from iter(done.get, None)


class Passing(Unavailable):
    """A failure that may pass by itself."""

    retry_after_s: float = 0.0


def _wait_s(state: RetryCallState) -> float:
    """What the engine asked for, else 0.5, 1, 2, 4 s, ...; never more than LONGEST_WAIT_S."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after_s if isinstance(error, Passing) else 0.0
    return min(LONGEST_WAIT_S, max(asked, math.ldexp(0.25, state.attempt_number)))


def refusal(url: str, status: int, retry_after: str | None, text: str) -> LrmError:
    """What a status other than 200 means. The body is searched for known causes, never quoted: it may hold a prompt."""
    if status in (408, 429) or status >= 500:
        error = Passing(f"{url} answers HTTP {status}, also when asked again; look at the engine's log and load")
        error.retry_after_s = float(retry_after) if retry_after and retry_after.strip().isdigit() else 0.0
        return error
    if status in (401, 403):
        return InvalidInput(f"{url} refuses our key (HTTP {status}); set LRM_API_KEY")
    if status == 404:
        return InvalidInput(f"{url} knows no such model or path (HTTP 404); check the endpoint's model and url")
    if re.search(r"context.{0,20}length|max_model_len|too long", text, re.IGNORECASE):
        return InvalidInput(f"prompt and max_tokens exceed the context of the model at {url}; lower max_tokens")
    return InvalidInput(f"{url} refuses the request (HTTP {status}{_code(text)}); it would refuse it again")


def _code(text: str) -> str:
    """The error's machine-readable code, when it looks like one."""
    try:
        error = json.loads(text)["error"]
        code = error.get("code") or error.get("type")
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
    return f", {code}" if isinstance(code, str) and _SAFE_CODE.fullmatch(code) else ""


def read_reply(url: str, text: str) -> tuple[str, str, int, int]:
    """(text, finish reason, prompt tokens, completion tokens) of a response's JSON."""
    try:
        body = json.loads(text)
        choice = body["choices"][0]
        said = choice["text"] if "text" in choice else joined_reasoning(choice["message"])
        usage = body.get("usage") or {}
        tokens = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
        reason = choice.get("finish_reason")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        raise Unavailable(f"{url} answered with no chat completion; is it an OpenAI-compatible server?") from None
    return said, reason if reason in FINISH_REASONS else "stop", *tokens


def joined_reasoning(message: Mapping[str, Any]) -> str:
    """One text of a message whose engine has split the thinking off; without content the thinking never ended."""
    content = message["content"] or message.get("refusal") or ""
    reasoning = message.get("reasoning") or message.get("reasoning_content")
    if not isinstance(content, str) or not isinstance(reasoning, str | None):
        raise TypeError("a message that is not text")
    if not reasoning:
        return content
    return f"<think>\n{reasoning}" + (f"\n</think>\n\n{content}" if content else "")
