"""Questions of many threads, gathered into a few rpc streams: services keep a thread a stream."""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from lrm_safety import observe
from lrm_safety.clients import Clients, OpenCalls
from lrm_safety.errors import Cancelled, LrmError, Unavailable
from lrm_safety.nouns import (
    Completion,
    GenerateRequest,
    JudgeSpec,
    Prompt,
    Sampling,
    ScoreItem,
    ScoreRequest,
    Verdict,
)

log = observe.logger(__name__)
STREAMS = 16
BATCH = 8  # questions a stream
GATHER_S = 0.01  # how long a stream waits for others who ask the same model
OUTAGES = 3  # times a service may fail to answer, one after another
PAUSE_S = 0.5  # after the first; doubles
ERRORS_IN_ROW = 16  # answers that are errors, one after another: the engine is dead
ENGINE_ERROR = "engine error"  # how a judge begins to say that its model did not answer


@dataclass(frozen=True)
class _Group:
    """What a stream is opened with: its questions share all of this."""

    method: Callable[..., Any]
    request: Callable[[list[Any]], Any]
    key: tuple[str, ...]


@dataclass
class _Question:
    group: _Group
    body: Any  # Prompt or ScoreItem
    answer: Future[Any] = field(default_factory=Future)


class Streams:
    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._waiting: deque[_Question] = deque()
        self._pool = ThreadPoolExecutor(STREAMS, thread_name_prefix="data-stream")
        self._calls = OpenCalls()
        self._asked = self._errors_in_row = 0
        self._closed = False
        self._lock = threading.Lock()

    def complete(self, endpoint: str, prompt: Prompt, sampling: Sampling) -> Completion:
        """Waits for it. Raises Unavailable when the engine or its service is dead, Cancelled after `close`."""
        group = _Group(
            self._clients.inference.Generate,
            lambda prompts: GenerateRequest(endpoint=endpoint, prompts=prompts, sampling=sampling),
            ("generate", endpoint, str(sampling)),
        )
        completion: Completion = self._ask(_Question(group, prompt))
        self._check_alive(endpoint, completion.error)
        return completion

    def score(self, judge: JudgeSpec, item: ScoreItem) -> Verdict:
        """As `complete`. The verdict has the item's own id."""
        group = _Group(
            self._clients.judge.Score,
            lambda items: ScoreRequest(judge=judge, items=items),
            ("score", judge.judge, judge.endpoint),
        )
        copy = ScoreItem()
        copy.CopyFrom(item)
        verdict: Verdict = self._ask(_Question(group, copy))
        verdict.id = item.id
        self._check_alive(judge.endpoint, verdict.invalid if verdict.invalid.startswith(ENGINE_ERROR) else "")
        return verdict

    def close(self) -> None:
        """Cancels what is under way."""
        with self._lock:
            self._closed = True
            left = list(self._waiting)
            self._waiting.clear()
        self._calls.cancel()
        for question in left:
            question.answer.set_exception(Cancelled("the build has stopped"))
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _ask(self, question: _Question) -> Any:
        with self._lock:
            if self._closed:
                raise Cancelled("the build has stopped")
            self._asked += 1
            question.body.id = str(self._asked)
            self._waiting.append(question)
            self._pool.submit(self._carry)
        return question.answer.result()

    def _carry(self) -> None:
        """Takes what waits for the same model as the first, if nobody has, and sees it answered or failed."""
        time.sleep(GATHER_S)
        batch = self._next_batch()
        left = {question.body.id: question for question in batch}
        error: LrmError | None = None
        for outage in range(OUTAGES):
            try:
                self._answer(left)
                error = None
            except Unavailable as caught:
                error = caught
            except LrmError as caught:
                error = caught
                break
            except Exception as crash:  # a defect must fail the build, not hang it
                log.error("stream_crashed", asks=batch[0].group.key[0], exc_info=crash)
                error = LrmError(f"internal error ({type(crash).__name__}); see the service's log")
                break
            if not left:
                return
            if outage + 1 < OUTAGES:
                time.sleep(PAUSE_S * 2**outage)
        for question in left.values():
            question.answer.set_exception(error or Unavailable("a service sent no answer; build again and it goes on"))

    def _next_batch(self) -> list[_Question]:
        batch: list[_Question] = []
        with self._lock:
            passed: list[_Question] = []
            while self._waiting and len(batch) < BATCH:
                question = self._waiting.popleft()
                (batch if not batch or question.group.key == batch[0].group.key else passed).append(question)
            self._waiting.extendleft(reversed(passed))
        return batch

    def _answer(self, left: dict[str, _Question]) -> None:
        """Takes out of `left` what was answered."""
        if not left:
            return
        group = next(iter(left.values())).group
        request = group.request([question.body for question in left.values()])
        for answer in self._calls.stream(group.method, request):
            question = left.pop(answer.id, None)
            if question is not None:
                question.answer.set_result(answer)

    def _check_alive(self, endpoint: str, error: str) -> None:
        """A few errors are data; with nothing but errors there is no living engine."""
        with self._lock:
            self._errors_in_row = self._errors_in_row + 1 if error else 0
            is_dead = self._errors_in_row >= ERRORS_IN_ROW
        if is_dead:
            raise Unavailable(
                f"the engine of {endpoint} failed {ERRORS_IN_ROW} times in a row, last: {error}; see its "
                "log, deploy it again, then build again and it goes on"
            )
