"""Models that are asked while a dataset is built: many rows at once, in order, within a budget, each answer counted.

A builder or filter that asks is plain code for one row: `ask.writer(messages)` and `ask.grader(messages)` wait for one
Completion, `ask.judge(name, item)` for one Verdict. Asking.each runs it for many rows in threads and gives back what it
returns in the order of the rows; streams.py gathers what they ask at the same time.
"""

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TypeVar

from lrm_safety.clients import Clients, rpc
from lrm_safety.errors import Exhausted, InvalidInput
from lrm_safety.nouns import (
    Asked,
    Budget,
    Completion,
    Endpoint,
    GetEndpointRequest,
    JudgeSpec,
    ListPluginsRequest,
    Message,
    Plugin,
    Prompt,
    Sampling,
    ScoreItem,
    ThinkState,
    Usage,
    Verdict,
    Writer,
    Written,
    reference,
)
from lrm_safety.settings import Settings
from services.data import embedding
from services.data.budget import Purse, most_judged, most_written
from services.data.dropping import Dropped
from services.data.embedding import Embedder
from services.data.ledger import Ledger
from services.data.streams import Streams

T = TypeVar("T")
R = TypeVar("R")
AT_ONCE = 64  # rows at work
WINDOW = 256  # rows at work or finished, and waiting for one before them
LOOK_S = 0.5
ATTEMPTS = 3  # at an answer that can be read
SEEDS = 1_000_000_000  # a seed of a spec is below, so that with what is asked it stays a number of 32 bits
UNNAMED = Sampling(max_tokens=2048)
NOBODY = Writer()

Send = Callable[[Prompt, Sampling], Completion]


@dataclass(frozen=True)
class Asker:
    """One model, as one row sees it."""

    role: str  # writer | grader
    send: Send
    sampling: Sampling  # what the spec sets: it goes before what the builder wants
    asked: Asked
    used: Sampling = field(default_factory=Sampling)  # in the last answer, with its seed

    def __call__(self, messages: Sequence[Message], sampling: Sampling = UNNAMED, attempt: int = 0) -> Completion:
        """The whole answer. `sampling`: what the builder wants where the spec says nothing. Another `attempt` is
        another sample of the same.

        The seed depends on what is asked, not on the place of the row. Raises Dropped for an answer that is an error,
        cut, filtered or empty; Exhausted past the budget; Unavailable when the model does not answer at all.
        """
        wanted = Sampling()
        wanted.CopyFrom(sampling)
        wanted.MergeFrom(self.sampling)
        completion = self.send(Prompt(messages=messages, repeat=_spread(messages) + attempt), wanted)
        self.used.CopyFrom(wanted)
        self.used.seed = completion.seed
        _count(self.asked, completion)
        self._check(completion)
        return completion

    def understood(self, messages: Sequence[Message], sampling: Sampling, read: Callable[[str], T]) -> T:
        """What `read` makes of the answer; one that it does not understand is asked for again, ATTEMPTS times in all.

        As STAR-1 does (arXiv 2504.01903). Raises what the last attempt raises, and at once what is not `unparsed`.
        """
        for attempt in range(ATTEMPTS - 1):
            try:
                return read(self(messages, sampling, attempt).answer)
            except Dropped as drop:
                if drop.state != "unparsed":
                    raise
            sampling = _warmer(sampling)
        return read(self(messages, sampling, ATTEMPTS - 1).answer)

    def _check(self, completion: Completion) -> None:
        if completion.error:
            raise Dropped(f"{self.role} failed", "failed")
        if completion.finish_reason == "content_filter":
            raise Dropped(f"{self.role} refused", "refused")
        if completion.finish_reason != "stop":
            raise Dropped(f"{self.role} was cut", "bad_finish")
        if completion.think_state == ThinkState.THINK_STATE_TRUNCATED or not completion.answer.strip():
            raise Dropped(f"{self.role} gave no answer", "unparsed")


@dataclass(frozen=True)
class Ask:
    """What one row may ask. Asking a model that the part or filter does not name raises InvalidInput."""

    writer: Asker
    grader: Asker
    judge: Callable[[str, ScoreItem], Verdict]  # name of the judge; one that asks a model asks the grader's
    options: Mapping[str, str] = field(default_factory=dict)
    asked: Asked = field(default_factory=Asked)

    def told(self, state: str = "") -> Asked:
        """What the row asked, when it is done: `state` as in Dropped."""
        self.asked.rows = 1
        setattr(self.asked, state or "completed", 1)
        return self.asked


class Model:
    """An endpoint that a spec names, with what it is."""

    def __init__(self, owner: str, role: str, spec: Writer, models: "Models") -> None:
        self.owner, self.role, self.spec = owner, role, spec
        self.endpoint = Endpoint()
        if spec.endpoint:
            self.endpoint = rpc(models.clients.inference.GetEndpoint, GetEndpointRequest(name=spec.endpoint))

    @property
    def reference(self) -> str:
        """`<endpoint>@<weights digest>`, or nothing."""
        return reference(self.spec.endpoint, self.endpoint.weights_digest) if self.spec.endpoint else ""

    @property
    def digest(self) -> str:
        """Of all that decides what it answers, beside the sampling."""
        return " ".join((self.endpoint.weights_digest, self.endpoint.engine, self.endpoint.precision))

    def needed(self) -> str:
        if not self.spec.endpoint:
            raise InvalidInput(
                f"{self.owner} asks a {self.role}; name the endpoint of a model as its {self.role}: "
                f"{{endpoint: ...}}; `lrm endpoints` shows those there are"
            )
        return self.spec.endpoint


class Models:
    """What a build asks, all its parts and filters together. Opens nothing before it is needed."""

    def __init__(self, connect: Callable[[], Clients], budget: Budget) -> None:
        self._connect, self.purse = connect, Purse(budget)
        self._embedder: Embedder | None = None
        self.look: Callable[[], None] = lambda: None  # called while somebody waits; may raise
        self.ledger: Ledger | None = None  # of the build

    @cached_property
    def clients(self) -> Clients:
        return self._connect()

    @cached_property
    def judges(self) -> Mapping[str, Plugin]:
        """All that there are, by name."""
        listed = rpc(self.clients.judge.ListPlugins, ListPluginsRequest(kind="judges")).plugins
        return {plugin.name: plugin for plugin in listed}

    @cached_property
    def streams(self) -> Streams:
        return Streams(self.clients)

    def embedder(self, settings: Settings) -> Embedder:
        self._embedder = self._embedder or embedding.find(settings)
        return self._embedder

    def close(self) -> None:
        """Ends what is under way."""
        if "streams" in self.__dict__:
            self.streams.close()


class Asking:
    """The models of one part or filter."""

    def __init__(self, owner: str, models: Models, writer: Writer = NOBODY, grader: Writer = NOBODY) -> None:
        self.writer, self.grader = Model(owner, "writer", writer, models), Model(owner, "grader", grader, models)
        self._models = models
        self._looked_at = 0.0
        self.asked = Asked()  # by filters; parts count their own

    @property
    def clients(self) -> Clients:
        return self._models.clients

    def embedder(self, settings: Settings) -> Embedder:
        return self._models.embedder(settings)

    def of(self, role: str) -> Model:
        return self.writer if role == "writer" else self.grader

    @property
    def inputs(self) -> list[str]:
        return [model.digest for model in (self.writer, self.grader) if model.spec.endpoint]

    def judge_digest(self, name: str) -> str:
        """Of a judge's code and prompt. Raises InvalidInput when there is none of that name."""
        judges = self._models.judges
        if name not in judges or not judges[name].digest:
            raise InvalidInput(f"no judge is named {name!r}; there are: {', '.join(judges)}")
        return judges[name].digest

    def ask(self, options: Mapping[str, str]) -> Ask:
        """For one row."""
        asked = Asked()
        judge = partial(self._judge, asked)
        return Ask(self._asker(self.writer, asked), self._asker(self.grader, asked), judge, options, asked)

    def finished(self, row: Written, options: Mapping[str, str], fill: Callable[[Ask], None]) -> Written:
        """The row as an earlier owner of the run had it; else filled, or why it was dropped, for the next to have.

        What asked nobody is made again for nothing; and an engine that was ill may be well the next time.
        """
        ledger = self._models.ledger
        if ledger and (before := ledger.find(row)):
            return before
        ask, state = self.ask(options), ""
        try:
            fill(ask)
        except Dropped as drop:
            row.dropped, state = str(drop), drop.state
        row.asked.CopyFrom(ask.told(state))
        if ledger and ask.asked.questions and state != "failed":
            ledger.add(row)
        return row

    def each(self, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """`work` of each item, in the order of the items, many at once. What work raises is raised in its place."""
        pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="asking")
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                while len(waiting) >= WINDOW or (waiting and waiting[0].done()):
                    yield self._next(waiting)
            while waiting:
                yield self._next(waiting)
        except Exhausted:
            pool.shutdown(wait=False, cancel_futures=True)
            while left := [each for each in waiting if not each.done()]:  # what is being answered is paid for
                wait(left, LOOK_S)
                self._look()
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _next(self, waiting: deque[Future[R]]) -> R:
        self._look()
        while not waiting[0].done():
            wait([waiting[0]], LOOK_S)
            self._look()
        return waiting.popleft().result()

    def _look(self) -> None:
        """Not for every row: it asks the store."""
        if time.monotonic() - self._looked_at >= LOOK_S:
            self._looked_at = time.monotonic()
            self._models.look()

    def _asker(self, model: Model, asked: Asked) -> Asker:
        def send(prompt: Prompt, sampling: Sampling) -> Completion:
            with self._models.purse.paying(model.spec, most_written(prompt, sampling)) as pay:
                completion = self._models.streams.complete(model.needed(), prompt, sampling)
                asked.cost += pay(completion)
            return completion

        return Asker(model.role, send, model.spec.sampling, asked)

    def _judge(self, asked: Asked, name: str, item: ScoreItem) -> Verdict:
        """Without what it took, which is not the same the next time."""
        spec, plugin = self.grader.spec, self._models.judges.get(name, Plugin())
        most = most_judged(item, plugin.at_most) if plugin.HasField("at_most") else Usage()
        with self._models.purse.paying(spec, most) as pay:
            verdict = self._models.streams.score(JudgeSpec(judge=name, endpoint=spec.endpoint), item)
            asked.cost += pay(verdict)
        if verdict.HasField("usage"):
            _count(asked, verdict)
        verdict.ClearField("usage")
        verdict.ClearField("cached")
        return verdict


def add(total: Asked, more: Asked) -> None:
    for field_, value in more.ListFields():
        setattr(total, field_.name, getattr(total, field_.name) + value)


def _count(asked: Asked, answer: Completion | Verdict) -> None:
    asked.questions += 1
    asked.cached += answer.cached
    if not answer.cached:
        asked.prompt_tokens += answer.usage.prompt_tokens
        asked.completion_tokens += answer.usage.completion_tokens


def _warmer(sampling: Sampling) -> Sampling:
    """A greedy answer would come again word for word."""
    warm = Sampling()
    warm.CopyFrom(sampling)
    warm.temperature = sampling.temperature or 1.0
    return warm


def _spread(messages: Sequence[Message]) -> int:
    """A number below SEEDS that goes with what is asked, in steps that leave room for attempts."""
    text = "\0".join(f"{message.role}\0{message.content}" for message in messages)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % (SEEDS // 1000) * 1000
