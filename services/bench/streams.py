"""The rpc streams of an evaluation: each runs in a thread of its own, and all that happens comes out of one queue."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from lrm_safety import observe
from lrm_safety.clients import Clients, OpenCalls
from lrm_safety.errors import LrmError
from lrm_safety.nouns import (
    Completion,
    GenerateRequest,
    JudgeSpec,
    Message,
    Prompt,
    Sample,
    ScoreItem,
    ScoreRequest,
    Verdict,
)
from services.bench.plan import Plan, Task

log = observe.logger(__name__)


@dataclass(frozen=True)
class Completed:
    task: Task
    sample: Sample  # with the attack's tags
    prompt: Prompt
    completion: Completion


@dataclass(frozen=True)
class Judged:
    judge: JudgeSpec
    verdict: Verdict  # its id is the task's key


@dataclass(frozen=True)
class Ended:
    """A stream's last word: what it was asked and did not answer, and why."""

    judge: JudgeSpec | None  # None: it was generating
    left: Sequence[Any]  # Tasks or ScoreItems
    error: LrmError | None
    started: float  # monotonic seconds


Event = Completed | Judged | Ended


class Streams:
    """Opens streams; `close` cancels those that are open."""

    def __init__(self, plan: Plan, clients: Clients) -> None:
        self.events: SimpleQueue[Event] = SimpleQueue()
        self._plan, self._clients = plan, clients
        self._calls = OpenCalls()

    def generate(self, tasks: Sequence[Task]) -> None:
        """Attacks and generates a batch of one suite."""
        left = {task.key: task for task in tasks}
        self._start(lambda: self._generate(left), None, left)

    def judge(self, judge: JudgeSpec, items: Sequence[ScoreItem]) -> None:
        left = {item.id: item for item in items}
        self._start(lambda: self._judge(judge, left), judge, left)

    def close(self) -> None:
        self._calls.cancel()

    def _generate(self, left: dict[str, Task]) -> None:
        asked = {key: self._attacked(task) for key, task in left.items()}
        suite = next(iter(left.values())).suite
        prompts = [prompt for _, prompt in asked.values()]
        request = GenerateRequest(endpoint=self._plan.endpoint.name, prompts=prompts, sampling=suite.sampling)
        for completion in self._calls.stream(self._clients.inference.Generate, request):
            task = left.pop(completion.id, None)
            if task is not None:
                self.events.put(Completed(task, *asked[task.key], completion))

    def _judge(self, judge: JudgeSpec, left: dict[str, ScoreItem]) -> None:
        request = ScoreRequest(judge=judge, items=list(left.values()))
        for verdict in self._calls.stream(self._clients.judge.Score, request):
            if left.pop(verdict.id, None) is not None:
                self.events.put(Judged(judge, verdict))

    def _attacked(self, task: Task) -> tuple[Sample, Prompt]:
        attempt = task.attack.apply(task.sample)
        sample, prompt = Sample(), Prompt()
        sample.CopyFrom(task.sample)
        sample.tags.update(attempt.tags)
        prompt.CopyFrom(attempt.prompt)
        prompt.id, prompt.repeat = task.key, task.repeat
        system = self._plan.spec.system_prompt
        if system and not any(message.role == "system" for message in prompt.messages):
            prompt.messages.insert(0, Message(role="system", content=system))
        return sample, prompt

    def _start(self, work: Callable[[], None], judge: JudgeSpec | None, left: dict[str, Any]) -> None:
        def run() -> None:
            started, error = time.monotonic(), None
            try:
                work()
            except LrmError as caught:
                error = caught
            except Exception as crash:  # a defect in a plugin must fail the run, not hang it
                log.error("stream_crashed", judge=judge.judge if judge else "", exc_info=crash)
                error = LrmError(f"internal error ({type(crash).__name__}); see the service's log")
            self.events.put(Ended(judge, list(left.values()), error, started))

        threading.Thread(target=run, name="bench-stream", daemon=True).start()
