"""A data service whose models follow a script, and what is asked of it."""

import json
import re
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lrm_safety import artefacts, jsonl
from lrm_safety.clients import Clients, rpc, rpc_stream
from lrm_safety.nouns import (
    BuildDatasetRequest,
    Completion,
    Dataset,
    DatasetSpec,
    Drop,
    FilterSpec,
    Prompt,
    Run,
    RunState,
    Sampling,
    WatchRunRequest,
    Writer,
)
from lrm_safety.store import ObjectStore
from services.data.dropping import FILE
from services.data.filters.risky_patterns import FLAGS
from tests.data.files import dataset, part
from tests.data.scripted_ask import completed
from tests.fakes.scripted_engine import ScriptedEngine, scripted_engine  # noqa: F401  (a fixture)

ANSWER_TOKENS = 20
LIMIT = Sampling(max_tokens=ANSWER_TOKENS)
GRADED = json.dumps({"analysis": "So.", **dict.fromkeys(FLAGS, 0)})
GRADER = Writer(endpoint="base", sampling=LIMIT)
ASKED = pytest.mark.parametrize("who", ["builder", "filter"])


@dataclass
class Script:
    """Answers each prompt by its words, of one about a question by that; counts who was asked how often."""

    answer: Callable[[str], Completion] = lambda text: completed(f"<think>\nHm, {text}\n</think>\n\nSo: {text}")
    asked: Counter[str] = field(default_factory=Counter)
    wait: Callable[[str], object] = lambda text: None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, prompt: Prompt) -> Completion:
        text = prompt.messages[-1].content
        text = next(iter(re.findall(r"Question \d+\?", text)), text)
        with self._lock:
            self.asked[text] += 1
        self.wait(text)
        said = self.answer(text)
        said.id, said.seed = prompt.id, prompt.repeat
        return said


def spec(rows: Path, count: int = 0, **more: object) -> DatasetSpec:
    made = dataset(part(rows, "default", name="p", count=count, writer=Writer(endpoint="base", sampling=LIMIT)))
    made.MergeFrom(DatasetSpec(**more))
    return made


def asked_by(who: str, rows: Path, **more: object) -> DatasetSpec:
    """All rows asked about once, by a builder or by a filter."""
    if who == "builder":
        return spec(rows, **more)
    graded = FilterSpec(filter="risky_patterns", options={"drop": "none"}, grader=GRADER)
    made = dataset(part(rows, "question", name="p"), filters=[graded])
    made.MergeFrom(DatasetSpec(**more))
    return made


def ask(clients: Clients, asked: DatasetSpec) -> Run:
    return rpc(clients.data.BuildDataset, BuildDatasetRequest(spec=asked))


def ended(clients: Clients, run: Run) -> Run:
    *_, last = rpc_stream(clients.runs("data").WatchRun, WatchRunRequest(id=run.id), timeout_s=60)
    return last


def built(clients: Clients, store: ObjectStore, asked: DatasetSpec) -> Dataset:
    run = ended(clients, ask(clients, asked))
    assert run.state == RunState.RUN_STATE_DONE, run.error
    return artefacts.find(store, "datasets", Dataset, run.result)


def drops(store: ObjectStore, made: Dataset) -> list[Drop]:
    return list(jsonl.unpack(Drop, store.read(f"datasets/{made.name}/{made.digest}/{FILE}")))
