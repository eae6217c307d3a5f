"""Fans prompts out to an engine and gives Completions in the order they finish. All async code of the house is here.

Own engines are spoken to by the lean client, vendors (https) by the `openai` package, imported nowhere else.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from lrm_safety import observe
from lrm_safety.chat_client import ChatClient, ChatRequest, Reply, read_reply, refusal
from lrm_safety.errors import Cancelled, LrmError, Unavailable
from lrm_safety.nouns import Completion, Prompt, Sampling
from services.inference.cache import CompletionCache, key_of
from services.inference.replicas import Client, Gone, Look, Replicas
from services.inference.target import Target

T = TypeVar("T")
KeyFor = Callable[[str], str]  # url -> the API key that it may see
REQUEST_TIMEOUT_S = 1800.0
CLOSE_S = 10.0
VENDOR_ATTEMPTS = 6
log = observe.logger(__name__)


class Generator:
    """The one event-loop thread of the service, with its connections and windows. Its methods are for sync callers."""

    def __init__(
        self, cache: CompletionCache, key_for: KeyFor = lambda url: "", timeout_s: float = REQUEST_TIMEOUT_S
    ) -> None:
        self._cache, self._key_for, self._timeout_s = cache, key_for, timeout_s
        self._replicas: dict[str, Replicas] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="generate", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends what is in flight and closes all connections. Nothing may be asked after it."""
        self._submit(self._close()).result(CLOSE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_S)

    def probe(self, url: str, timeout_s: float = 3.0) -> tuple[int, str]:
        """(status, text) of a GET; status 0 when nobody answers in time."""
        return self._submit(self._get(url, timeout_s)).result()

    def generate(self, target: Target, prompts: Sequence[Prompt], sampling: Sampling, look: Look) -> "Stream":
        """One Completion a prompt, as they finish; what fails for one prompt is its Completion.error.

        Iterating raises Unavailable when the engine is gone: `look` finds its replicas, or says why there are none.
        """
        done: queue.SimpleQueue[Completion | None] = queue.SimpleQueue()
        work = self._submit(self._fan_out(target, prompts, sampling, look, done.put))
        work.add_done_callback(lambda _: done.put(None))
        return Stream(work, done)

    async def _fan_out(
        self,
        target: Target,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        look: Look,
        emit: Callable[[Completion], None],
    ) -> None:
        async def one(prompt: Prompt) -> None:
            try:
                emit(await self._complete(target, prompt, sampling, look))
            except Gone:
                raise
            except LrmError as error:
                log.info("completion_failed", endpoint=target.endpoint.name, prompt=prompt.id, error=str(error))
                observe.count("lrm_completion_failed_total", endpoint=target.endpoint.name)
                emit(Completion(id=prompt.id, error=str(error)))

        self._of(target).update(target.replicas)
        try:
            async with asyncio.TaskGroup() as tasks:
                for prompt in prompts:
                    tasks.create_task(one(prompt))
        except* LrmError as errors:
            raise errors.exceptions[0] from None

    async def _complete(self, target: Target, prompt: Prompt, sampling: Sampling, look: Look) -> Completion:
        name = target.endpoint.name
        request = target.request(prompt, sampling)
        key = key_of(target.endpoint, request, prompt.repeat)
        reply = await asyncio.to_thread(self._cache.get, key)
        if reply is not None:
            observe.count("lrm_completion_cached_total", endpoint=name)
            return target.completion(prompt, sampling, reply, cached=True)
        reply = await self._of(target).complete(request, look)
        await asyncio.to_thread(self._cache.put, key, reply)
        observe.count("lrm_completion_generated_total", endpoint=name)
        observe.add("lrm_token_generated_total", reply.completion_tokens, endpoint=name)
        observe.timing("lrm_completion_latency_seconds", reply.latency_s, endpoint=name)
        return target.completion(prompt, sampling, reply, cached=False)

    def _of(self, target: Target) -> Replicas:
        url = target.endpoint.url
        if url not in self._replicas:
            may_change = target.endpoint.spec.replicas > 1
            self._replicas[url] = Replicas(lambda replica: self._connect(target, replica), target.window, may_change)
        return self._replicas[url]

    def _connect(self, target: Target, url: str) -> Client:
        key = "" if target.engine else self._key_for(url)  # engines of ours ask for none
        kind = VendorClient if target.is_vendor else ChatClient
        return kind(url, api_key=key, timeout_s=self._timeout_s)

    async def _close(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for replicas in self._replicas.values():
            await replicas.close()

    async def _get(self, url: str, timeout_s: float) -> tuple[int, str]:
        async with ChatClient(url, api_key=self._key_for(url)) as client:
            return await client.get(url, timeout_s)

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)


class Stream:
    """Completions on their way. `cancel` (from any thread) or leaving the loop early ends the work at the engine."""

    def __init__(self, work: Future[None], done: "queue.SimpleQueue[Completion | None]") -> None:
        self._work, self._done = work, done

    def __iter__(self) -> Iterator[Completion]:
        try:
            yield from iter(self._done.get, None)
            self._work.result()
        except CancelledError:
            raise Cancelled("the caller went away") from None
        finally:
            self._work.cancel()

    def cancel(self) -> None:
        self._work.cancel()


class VendorClient:
    """An endpoint of others behind the `openai` package, whose retries and headers suit vendors."""

    def __init__(self, url: str, *, api_key: str = "", timeout_s: float = REQUEST_TIMEOUT_S) -> None:
        import openai  # slow to import, and few need it

        self._openai, self._url = openai, url
        self._client = openai.AsyncOpenAI(
            base_url=url, api_key=api_key or "none", timeout=timeout_s, max_retries=VENDOR_ATTEMPTS
        )

    async def get(self, url: str, timeout_s: float = 3.0) -> tuple[int, str]:
        """Vendors have no metrics for us: as if nobody answered."""
        return 0, ""

    async def close(self) -> None:
        await self._client.close()

    async def complete(self, request: ChatRequest, attempts: int = 0) -> Reply:
        """Raises what ChatClient.complete raises. The package does the retries, always VENDOR_ATTEMPTS."""
        started = time.monotonic()
        body = request.body()
        if self._client.base_url.host == "api.openai.com":
            body["max_completion_tokens"] = body.pop("max_tokens")
        try:
            answer = await self._client.post(request.route(), body=body, cast_to=str)
        except self._openai.APIStatusError as error:
            headers = error.response.headers
            raise refusal(self._url, error.status_code, headers.get("retry-after"), error.response.text) from None
        except self._openai.APIConnectionError as error:
            raise Unavailable(
                f"{self._url} does not answer ({type(error).__name__}); check the url and the net"
            ) from None
        return Reply(*read_reply(self._url, answer), latency_s=time.monotonic() - started)
