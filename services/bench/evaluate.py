"""The sample loop: a window of samples in flight, judged and committed as they finish, resumed where it stopped.

One thread owns all the state; streams (streams.py) only put events into its queue. Nothing waits for a batch: a slow
thinker holds its place in the window and nothing else, a finished sample goes straight to its judges.
"""

import time
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from queue import Empty

from lrm_safety import observe
from lrm_safety.clients import Clients
from lrm_safety.errors import Conflict, LrmError, Unavailable
from lrm_safety.nouns import Completion, JudgeSpec, Prompt, Record, ScoreItem, Verdict, question
from lrm_safety.runs import OwnedRun
from services.bench.plan import Plan, Task
from services.bench.stopping import Stopping
from services.bench.streams import Completed, Ended, Event, Judged, Streams

WINDOW = 64  # samples at the engine
BATCH = 8  # prompts a Generate stream
STREAMS = 16  # Generate streams open: a thread of the inference service each
BACKLOG = 512  # samples generated or being judged, and not yet committed
GATED_BACKLOG = 128  # where the next verdicts may end the asking
JUDGE_STREAMS = 4  # Score streams open a judge
JUDGE_BATCH = 32
COMMIT_ROWS = 64
COMMIT_S = 1.0
ERRORS_IN_ROW = 16  # completions that are errors, one after another: the engine is dead
OUTAGES = 3  # times a service may fail to answer, one after another
PAUSE_S = 0.5  # after the first; doubles


def evaluate(run: OwnedRun, plan: Plan, clients: Clients, stopping: Stopping | None = None) -> None:
    """Commits a Record for every task of the plan that has none yet; with `stopping`, until that has its decision.

    Raises Unavailable when the engine or a judge is dead (what is finished stays, asking again goes on), Cancelled,
    and Conflict when another owner has the run.
    """
    streams = Streams(plan, clients)
    loop = _Loop(run, plan, streams, stopping or Stopping())
    try:
        loop.run()
    except Conflict:
        raise
    except LrmError:
        loop.commit(everything=True)
        raise
    finally:
        streams.close()


def unique(records: Iterable[Record]) -> Iterator[Record]:
    """Each key once: its first record with a completion; only for want of one, at the end, its first engine error."""
    seen: set[str] = set()
    errors: dict[str, Record] = {}
    for record in records:
        if record.completion.error:
            errors.setdefault(record.key, record)
        elif record.key not in seen:
            seen.add(record.key)
            yield record
    yield from (record for key, record in errors.items() if key not in seen)


@dataclass
class _Patience:
    """Counts outages of one service. Streams that were open together and break together are one outage."""

    what: str
    outages: int = 0
    since: float = 0.0
    until: float = 0.0  # nothing new is sent before

    def lose(self, started: float, error: LrmError) -> None:
        now = time.monotonic()
        if started >= self.since:
            self.outages += 1
            self.since = self.until = now + PAUSE_S * 2 ** (self.outages - 1)
        if self.outages >= OUTAGES:
            raise Unavailable(f"{self.what} does not answer: {error}; when it does, ask again and the run goes on")

    def is_over(self) -> bool:
        return time.monotonic() >= self.until


@dataclass
class _Draft:
    """A sample between its completion and its last verdict."""

    record: Record
    judges: tuple[JudgeSpec, ...]
    verdicts: dict[str, Verdict] = field(default_factory=dict)


@dataclass
class _Desk:
    """What waits for one judge."""

    judge: JudgeSpec
    patience: _Patience
    items: deque[ScoreItem] = field(default_factory=deque)
    streams: int = 0


class _Loop:
    def __init__(self, run: OwnedRun, plan: Plan, streams: Streams, stopping: Stopping) -> None:
        self._owned, self._plan, self._streams, self._stopping = run, plan, streams, stopping
        tasks = stopping.arrange(plan.tasks())
        kept = set()
        for record in unique(run.parts(Record)):
            if not record.completion.error:
                kept.add(record.key)
                stopping.tell(record)
        self._todo = deque(task for task in tasks if task.key not in kept)
        self._total, self._done = len(tasks), len(tasks) - len(self._todo)
        self._generating = self._open_streams = self._errors_in_row = 0
        self._engine = _Patience(f"the engine of {plan.endpoint.name}")
        self._closed: frozenset[str] = frozenset()  # roles of which nothing more is asked
        self._drafts: dict[str, _Draft] = {}
        self._desks: dict[tuple[str, str], _Desk] = {}
        self._ready: list[Record] = []
        self._failed: list[Record] = []  # engine errors: committed last, once the engine is known to live
        self._counts: dict[str, float] = defaultdict(float, resumed=float(self._done))
        self._committed_at = self._looked_at = time.monotonic()

    def run(self) -> None:
        self._report()
        while self._done < self._total:
            self._drop_unwanted()
            self._dispatch()
            self._take()
            for desk in self._desks.values():
                self._send(desk)
            self.commit()
            self._look_up()
        self._settle_failures()
        self.commit(everything=True)
        self._report()

    def commit(self, everything: bool = False) -> None:
        """Finished records as one part, in groups: by number, or by age."""
        old = time.monotonic() - self._committed_at >= COMMIT_S
        if self._ready and (everything or old or len(self._ready) >= COMMIT_ROWS):
            self._owned.commit(self._ready)
            for record in self._ready:
                observe.count("lrm_sample_evaluated_total", benchmark=record.benchmark, state=_state(record))
            self._ready = []
            self._committed_at = time.monotonic()

    def _drop_unwanted(self) -> None:
        """What is decided need not be asked."""
        closed = self._stopping.closed()
        if closed != self._closed:
            wanted = deque(task for task in self._todo if task.suite.benchmark.role not in closed)
            dropped = len(self._todo) - len(wanted)
            self._closed, self._todo, self._total = closed, wanted, self._total - dropped
            self._counts["skipped"] += dropped

    def _dispatch(self) -> None:
        backlog = GATED_BACKLOG if self._stopping.is_on else BACKLOG
        while self._todo and self._open_streams < STREAMS and self._engine.is_over():
            room = min(WINDOW - self._generating, backlog - self._generating - len(self._drafts))
            if room < min(BATCH, len(self._todo)):
                return
            batch = self._next_batch()
            self._open_streams += 1
            self._generating += len(batch)
            self._streams.generate(batch)

    def _next_batch(self) -> list[Task]:
        """The first task, and the next ones of its suite: roles that take turns stand between them."""
        batch, passed = [self._todo.popleft()], list[Task]()
        while self._todo and len(batch) < BATCH and len(passed) < WINDOW:
            task = self._todo.popleft()
            (batch if task.suite is batch[0].suite else passed).append(task)
        self._todo.extendleft(reversed(passed))
        return batch

    def _take(self) -> None:
        """Waits briefly for an event, then takes all there are."""
        try:
            self._handle(self._streams.events.get(timeout=0.1))
            while True:
                self._handle(self._streams.events.get_nowait())
        except Empty:
            return

    def _handle(self, event: Event) -> None:
        match event:
            case Completed():
                self._completed(event)
            case Judged(judge, verdict):
                self._judged(judge, verdict)
            case Ended(None):
                self._generation_ended(event)
            case Ended():
                self._judging_ended(event)

    def _completed(self, event: Completed) -> None:
        self._generating -= 1
        suite, completion = event.task.suite, event.completion
        record = Record(
            key=event.task.key,
            benchmark=suite.benchmark.name,
            attack=event.task.attack.name,
            role=suite.benchmark.role,
            sample=event.sample,
            prompt=event.prompt,
            completion=completion,
        )
        if completion.error:
            self._engine_failed(record)
            return
        self._errors_in_row = self._engine.outages = 0
        self._counts["truncated"] += completion.finish_reason == "length"
        self._counts["tokens"] += completion.usage.completion_tokens
        self._drafts[record.key] = _Draft(record, suite.judges)
        for judge in suite.judges:
            self._desk(judge).items.append(
                ScoreItem(
                    id=record.key,
                    prompt=question(event.sample),
                    thinking=completion.thinking,
                    answer=completion.answer,
                    target=event.sample.target,
                )
            )

    def _engine_failed(self, record: Record) -> None:
        self._done += 1
        self._counts["invalid"] += 1
        self._errors_in_row += 1
        self._failed.append(record)
        self._stopping.tell(record)
        if self._errors_in_row >= ERRORS_IN_ROW:
            raise Unavailable(
                f"the engine of {self._plan.endpoint.name} failed {self._errors_in_row} times in a row, last: "
                f"{record.completion.error}; see its log, deploy it again, then ask again and the run goes on"
            )

    def _generation_ended(self, event: Ended) -> None:
        self._open_streams -= 1
        if isinstance(event.error, Unavailable):
            self._generating -= len(event.left)
            self._todo.extendleft(reversed(event.left))
            self._closed = frozenset()  # some of these may be wanted no more
            self._engine.lose(event.started, event.error)
            return
        if event.error:
            raise event.error
        for task in event.left:
            nothing = Completion(id=task.key, error="the engine sent no completion")
            self._completed(Completed(task, task.sample, Prompt(id=task.key, repeat=task.repeat), nothing))

    def _judged(self, judge: JudgeSpec, verdict: Verdict) -> None:
        self._desk(judge).patience.outages = 0
        draft = self._drafts[verdict.id]
        verdict.judge = judge.judge
        draft.verdicts[judge.judge] = verdict
        if len(draft.verdicts) < len(draft.judges):
            return
        draft.record.verdicts.extend(draft.verdicts[each.judge] for each in draft.judges)
        self._counts["invalid"] += bool(draft.record.verdicts[0].invalid)
        self._ready.append(self._drafts.pop(verdict.id).record)
        self._stopping.tell(draft.record)
        self._done += 1

    def _judging_ended(self, event: Ended) -> None:
        assert event.judge is not None
        desk = self._desk(event.judge)
        desk.streams -= 1
        if isinstance(event.error, Unavailable):
            desk.items.extendleft(reversed(event.left))
            desk.patience.lose(event.started, event.error)
            return
        if event.error:
            raise event.error
        for item in event.left:
            self._judged(event.judge, Verdict(id=item.id, invalid="the judge sent no verdict"))

    def _desk(self, judge: JudgeSpec) -> _Desk:
        key = (judge.judge, judge.endpoint)
        if key not in self._desks:
            self._desks[key] = _Desk(judge, _Patience(f"judge {judge.judge}"))
        return self._desks[key]

    def _send(self, desk: _Desk) -> None:
        """Small batches while the judge keeps up, larger ones when it does not."""
        while desk.items and desk.streams < JUDGE_STREAMS and desk.patience.is_over():
            items = [desk.items.popleft() for _ in range(min(JUDGE_BATCH, len(desk.items)))]
            desk.streams += 1
            self._streams.judge(desk.judge, items)

    def _look_up(self) -> None:
        """Once a second at most: is the end asked for, and how far are we."""
        if time.monotonic() - self._looked_at >= COMMIT_S:
            self._looked_at = time.monotonic()
            self._owned.check_cancelled()
            self._report()

    def _report(self) -> None:
        self._owned.progress("evaluate", self._done, self._total, "samples", self._counts)

    def _settle_failures(self) -> None:
        """Errors of a living engine are data. With nothing but errors there is no living engine."""
        if self._failed and len(self._failed) == self._total:
            raise Unavailable(
                f"the engine of {self._plan.endpoint.name} gave no completion for any of {self._total} samples, first: "
                f"{self._failed[0].completion.error}; see its log, deploy it again, then ask again"
            )
        self._ready.extend(self._failed)


def _state(record: Record) -> str:
    if record.completion.error:
        return "engine_error"
    return "invalid" if record.verdicts[0].invalid else "judged"
