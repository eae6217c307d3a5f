"""An OpenAI-compatible server that answers by script, on a real port, with failures on demand.

    def test_it(scripted_engine):
        scripted_engine.reply = lambda messages: "<think>easy</think>4"
        scripted_engine.fail(500, times=2)          # or 429, "hang", "garbage", "drop"
        ... scripted_engine.url ...                 # http://127.0.0.1:<port>/v1

It serves /v1/chat/completions, /v1/completions (whose prompt reaches `reply` as one user message), /v1/models, /health,
vLLM's /version and /metrics, and /requests; cuts at max_tokens words, and keeps every request's body in `requests`.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiohttp import web

Messages = list[dict[str, str]]
HANG_S = 3600.0


def echo(messages: Messages) -> str:
    """A thought and an answer that quote the last turn."""
    return f"<think>\nabout: {messages[-1]['content']}\n</think>\n\nanswer to: {messages[-1]['content']}"


class ScriptedEngine:
    """Listens from the start. Assign `reply`, `delay_s`, `finish_reason`, `places` as a test needs them."""

    def __init__(self, model: str = "scripted", port: int = 0, host: str = "127.0.0.1") -> None:
        self.model, self._host = model, host
        self.version = "0.18.0"
        self.reply: Callable[[Messages], str] = echo
        self.delay_s: Callable[[Messages], float] = lambda messages: 0.0
        self.finish_reason = "stop"
        self.places = 1_000_000  # completions it works on at once; the rest wait, and /metrics says how many
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []  # what came as Authorization, with each request and each look at the models
        self.in_flight = self.peak = self.working = 0
        self._failures: deque[int | str] = deque()
        self._port = port
        self.start()

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self._port}/v1"

    def fail(self, how: int | str, times: int = 1) -> None:
        """The next `times` completions end so: an HTTP status, "hang", "garbage", or "drop" of the connection."""
        self._failures.extend([how] * times)

    def start(self) -> None:
        """Also after `stop`, on the same port."""
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(10)

    def stop(self) -> None:
        """Dead at once, connections cut, as after kill -9."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopped.set)
            self._thread.join(10)

    def _run(self, started: threading.Event) -> None:
        asyncio.run(self._serve(started))

    async def _serve(self, started: threading.Event) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/completions", self._text)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/health", self._health)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/version", self._version)
        app.router.add_get("/requests", self._requests)
        runner = web.AppRunner(app, shutdown_timeout=0.01, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, self._host, self._port, reuse_address=True).start()
        self._port = runner.addresses[0][1]
        started.set()
        await self._stopped.wait()
        await runner.cleanup()

    async def _chat(self, request: web.Request) -> web.Response:
        body = await request.json()
        text = await self._written(request, body, body["messages"])
        return (
            text
            if isinstance(text, web.Response)
            else self._answer(body, text, lambda said: {"message": {"content": said}})
        )

    async def _text(self, request: web.Request) -> web.Response:
        body = await request.json()
        text = await self._written(request, body, [{"role": "user", "content": body["prompt"]}])
        return text if isinstance(text, web.Response) else self._answer(body, text, lambda said: {"text": said})

    async def _written(self, request: web.Request, body: dict[str, Any], messages: Messages) -> str | web.Response:
        self.requests.append(body)
        self.keys.append(request.headers.get("Authorization", ""))
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            if self._failures:
                return await self._failed(request, self._failures.popleft())
            while self.working >= self.places:
                await asyncio.sleep(0.005)
            self.working += 1
            try:
                await asyncio.sleep(self.delay_s(messages))
            finally:
                self.working -= 1
            return self.reply(messages)
        finally:
            self.in_flight -= 1

    async def _failed(self, request: web.Request, how: int | str) -> web.Response:
        if how == "hang":
            await asyncio.sleep(HANG_S)
        if how == "drop" and request.transport is not None:
            request.transport.abort()
        if isinstance(how, int):
            headers = {"Retry-After": "0"} if how == 429 else {}
            error = {"error": {"message": "it quotes SECRET-PROMPT", "code": "scripted_failure"}}
            return web.json_response(error, status=how, headers=headers)
        return web.Response(text="<html>no chat completion</html>")

    def _answer(self, body: dict[str, Any], text: str, choice: Callable[[str], dict[str, Any]]) -> web.Response:
        words = text.split(" ")
        allowed = body.get("max_tokens") or len(words)
        reason = "length" if len(words) > allowed else self.finish_reason
        said = " ".join(words[:allowed])
        usage = {"prompt_tokens": 7, "completion_tokens": min(len(words), allowed)}
        choices = [{"index": 0, "finish_reason": reason, **choice(said)}]
        return web.json_response({"model": self.model, "choices": choices, "usage": usage})

    async def _models(self, request: web.Request) -> web.Response:
        self.keys.append(request.headers.get("Authorization", ""))
        return web.json_response({"object": "list", "data": [{"id": self.model}]})

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": self.version})

    async def _requests(self, request: web.Request) -> web.Response:
        return web.json_response(self.requests)

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response()

    async def _metrics(self, request: web.Request) -> web.Response:
        waiting = self.in_flight - self.working
        return web.Response(text=f'vllm:num_requests_waiting{{engine="0",model_name="{self.model}"}} {waiting}.0\n')


@pytest.fixture
def scripted_engine() -> Iterator[ScriptedEngine]:
    engine = ScriptedEngine()
    yield engine
    engine.stop()
