"""How many completions are in flight at an engine: as many as keep its own waiting queue short but not empty.

vLLM tells how many requests wait (`vllm:num_requests_waiting`). None waiting means that it could take more; many
waiting only lengthen latencies and forget shared prefixes. An engine that does not tell gets a fixed window. Several
replicas of one engine have one window, as many times as large.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

POLL_S = 0.5
WAITING_WANTED = 4
UNTOLD = 16  # in flight at an engine that has no such metric
_WAITING = re.compile(r"^vllm:num_requests_waiting(?:\{[^}]*\})? ([0-9.eE+]+)$", re.MULTILINE)

ReadMetrics = Callable[[], Awaitable[str]]  # the text of /metrics; empty when there is none


class Window:
    """The places at the replicas of one engine, shared by all that talk to it in one event loop."""

    def __init__(self, bounds: tuple[int, int], read_metrics: ReadMetrics) -> None:
        self._low, self._high = bounds  # of each replica
        self._replicas = 1
        self.size = max(self._low, min(self._high, UNTOLD))
        self._read_metrics = read_metrics
        self._in_flight = 0
        self._places = asyncio.Condition()
        self._poll: asyncio.Task[None] | None = None

    def scale(self, replicas: int) -> None:
        """There are so many replicas now."""
        low, high = self._low * replicas, self._high * replicas
        self.size = max(low, min(high, round(self.size * replicas / self._replicas)))
        self._replicas = replicas

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Waits for a place, first come, first served, and holds it."""
        async with self._places:
            await self._places.wait_for(lambda: self._in_flight < self.size)
            self._in_flight += 1
        if self._low < self._high and (self._poll is None or self._poll.done()):
            self._poll = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            self._in_flight -= 1
            async with self._places:
                self._places.notify_all()

    async def _follow(self) -> None:
        while self._in_flight:
            await asyncio.sleep(POLL_S)
            waiting = waiting_in(await self._read_metrics())
            if waiting is None:
                return
            bounds = self._low * self._replicas, self._high * self._replicas
            self.size = resized(self.size, waiting, self._in_flight, bounds, WAITING_WANTED * self._replicas)
            async with self._places:
                self._places.notify_all()


def waiting_in(metrics: str) -> float | None:
    """Requests that wait, over all of the server's engines; None when the text does not say."""
    found = [float(match) for match in _WAITING.findall(metrics)]
    return sum(found) if found else None


def resized(
    size: int, waiting: float, in_flight: int, bounds: tuple[int, int], wanted_waiting: int = WAITING_WANTED
) -> int:
    """Grows by a quarter when nothing waits and the window is full; shrinks to what leaves `wanted_waiting` waiting."""
    if waiting < wanted_waiting:
        wanted = size + max(2, size // 4) if in_flight >= size else size
    else:
        wanted = size - max(0, round(waiting) - 2 * wanted_waiting)
    return max(bounds[0], min(bounds[1], wanted))
