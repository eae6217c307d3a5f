"""The servers behind one endpoint: how many requests each has in flight, which gets the next, what if one is gone.

Lives in the event loop of generate.py. One server of ours or of a vendor is the simple case: it is asked patiently.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from lrm_safety import observe
from lrm_safety.chat_client import ChatRequest, Passing, Reply
from lrm_safety.errors import Unavailable
from services.inference.routing import choose, prefix
from services.inference.window import Window

SUSPECT_S = 5.0  # for which a replica that failed gets nothing, as long as there are others
LOOK_EVERY_S = 10.0  # for replicas that have come
ROUNDS = 3  # in which a request is tried at replicas that change meanwhile
log = observe.logger(__name__)
Look = Callable[[], tuple[str, ...]]  # the urls that take requests now; raises Unavailable when there are none


class Gone(Unavailable):
    """The endpoint as a whole cannot be asked any more; says why."""


class Client(Protocol):
    async def complete(self, request: ChatRequest, attempts: int = 0) -> Reply: ...

    async def get(self, url: str, timeout_s: float = 3.0) -> tuple[int, str]: ...

    async def close(self) -> None: ...


class Replicas:
    def __init__(self, connect: Callable[[str], Client], window: tuple[int, int], may_change: bool = False) -> None:
        self._connect, self._bounds, self._may_change = connect, window, may_change
        self.urls: tuple[str, ...] = ()
        self.window = Window(window, self._metrics)
        self._clients: dict[str, Client] = {}
        self._in_flight: Counter[str] = Counter()
        self._suspects: dict[str, float] = {}  # url -> until when
        self._closing: set[asyncio.Future[None]] = set()
        self._looking: asyncio.Task[tuple[str, ...]] | None = None
        self._looked_at = time.monotonic()

    def update(self, urls: tuple[str, ...]) -> None:
        """These take requests from now on. Those that left end what they have."""
        self._looked_at = time.monotonic()
        if set(urls) == set(self.urls):
            return
        if self.urls:
            log.info("replicas_changed", before=len(self.urls), now=len(urls))
        self.urls = urls
        self.window.scale(len(urls))
        for url in [url for url in self._clients if url not in urls and not self._in_flight[url]]:
            self._closing.add(closing := asyncio.ensure_future(self._clients.pop(url).close()))
            closing.add_done_callback(self._closing.discard)

    async def complete(self, request: ChatRequest, look: Look) -> Reply:
        """Raises what ChatClient.complete raises, and Gone."""
        async with self.window.place():
            for _ in range(ROUNDS):
                self._look_now_and_then(look)
                before = self.urls
                try:
                    return await self._try(request)
                except Unavailable as error:
                    await self._look(look)
                    failure = error
                    if self.urls == before or not isinstance(error, Passing):
                        break
            raise failure

    async def close(self) -> None:
        for client in self._clients.values():
            await client.close()
        self._clients.clear()

    async def _try(self, request: ChatRequest) -> Reply:
        """Each replica once; then patiently the one that is the best."""
        key, tried = prefix(request), set[str]()
        for _ in self.urls[1:] and self.urls:
            url = self._choose(key, tried)
            try:
                return await self._ask(url, request, attempts=1)
            except Passing as error:
                tried.add(url)
                self._suspects[url] = time.monotonic() + SUSPECT_S
                observe.count("lrm_completion_rerouted_total")
                log.info("replica_failed", error=str(error))
        return await self._ask(self._choose(key, set()), request)

    def _choose(self, key: str, tried: set[str]) -> str:
        now = time.monotonic()
        suspects = {url for url, until in self._suspects.items() if until > now}
        urls = [url for url in self.urls if url not in tried] or self.urls
        return choose(key, {url: self._in_flight[url] for url in urls}, self._bounds, suspects)

    async def _ask(self, url: str, request: ChatRequest, attempts: int = 0) -> Reply:
        client = self._client(url)
        self._in_flight[url] += 1
        try:
            return await client.complete(request, attempts)
        finally:
            self._in_flight[url] -= 1
            if url not in self.urls and not self._in_flight[url] and url in self._clients:
                await self._clients.pop(url).close()

    def _client(self, url: str) -> Client:
        if url not in self._clients:
            self._clients[url] = self._connect(url)
        return self._clients[url]

    def _look_now_and_then(self, look: Look) -> None:
        if self._may_change and time.monotonic() - self._looked_at > LOOK_EVERY_S:
            self._looked_at = time.monotonic()
            self._begin_to_look(look)

    def _begin_to_look(self, look: Look) -> "asyncio.Task[tuple[str, ...]]":
        """One thread looks for all who want to know."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(asyncio.to_thread(look))
            self._looking.add_done_callback(self._seen)
        return self._looking

    def _seen(self, looked: "asyncio.Task[tuple[str, ...]]") -> None:
        if not looked.cancelled() and looked.exception() is None:
            self.update(looked.result())

    async def _look(self, look: Look) -> None:
        try:
            await asyncio.shield(self._begin_to_look(look))
        except Unavailable as error:
            raise Gone(str(error)) from None

    async def _metrics(self) -> str:
        """Of all replicas, one after the other; empty where they have none."""
        texts = []
        for url in self.urls:
            status, text = await self._client(url).get(url.removesuffix("/v1") + "/metrics", 3.0)
            texts.append(text if status == 200 else "")
        return "\n".join(texts)
