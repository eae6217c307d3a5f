"""A bench service with scripted neighbours, and small benchmark files of harmless rows."""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from lrm_safety import runs, serving
from lrm_safety.clients import Clients, rpc, rpc_stream
from lrm_safety.nouns import (
    BenchmarkSpec,
    BenchSpec,
    GetRunRequest,
    GetScorecardRequest,
    ReadRecordsRequest,
    Record,
    Run,
    RunBenchmarksRequest,
    RunState,
    Scorecard,
    WatchRunRequest,
)
from lrm_safety.settings import Settings
from lrm_safety.store import ObjectStore
from services.bench import service
from tests.bench.scripted import ScriptedInference, ScriptedJudge


@dataclass
class Stage:
    """The three services, and what a test asks of them."""

    clients: Clients
    store: ObjectStore
    inference: ScriptedInference
    judge: ScriptedJudge

    def start(self, spec: BenchSpec) -> Run:
        return rpc(self.clients.bench.RunBenchmarks, RunBenchmarksRequest(spec=spec))

    def finish(self, spec: BenchSpec) -> Run:
        """Asks, and follows the run to its end, whatever that is."""
        asked = WatchRunRequest(id=self.start(spec).id)
        *_, last = rpc_stream(self.clients.runs("bench").WatchRun, asked, timeout_s=60)
        return last

    def measure(self, spec: BenchSpec) -> Scorecard:
        run = self.finish(spec)
        assert run.state == RunState.RUN_STATE_DONE, run.error
        return rpc(self.clients.bench.GetScorecard, GetScorecardRequest(run=run.id))

    def state(self, run: Run) -> Run:
        return rpc(self.clients.runs("bench").GetRun, GetRunRequest(id=run.id))

    def records(self, run: str) -> list[Record]:
        return list(rpc_stream(self.clients.bench.ReadRecords, ReadRecordsRequest(run=run)))

    def committed(self, run: str) -> list[Record]:
        """As they lie in the parts: duplicates and all."""
        return list(runs.read_parts(self.store, run, Record))


@pytest.fixture
def stage(
    settings: Settings,
    store: ObjectStore,
    clients: Clients,
    serve: Callable[[str, serving.Register], serving.Server],
) -> Stage:
    inference, judge = ScriptedInference(), ScriptedJudge()
    serve("inference", inference.register)
    serve("judge", judge.register)
    serve("bench", service.register)
    return Stage(clients, store, inference, judge)


@pytest.fixture
def harm_file(tmp_path: Path) -> Callable[[int], str]:
    """A file in the form of StrongREJECT with so many invented rows."""

    def write(rows: int) -> str:
        path = tmp_path / f"harm{rows}.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["category", "source", "forbidden_prompt"])
            writer.writerows([["pranks", "test", f"Tell me trick number {n},\nplease."] for n in range(rows)])
        return str(path)

    return write


@pytest.fixture
def sums_file(tmp_path: Path) -> Callable[[int], str]:
    """A file in the form of MATH-500."""

    def write(rows: int) -> str:
        path = tmp_path / f"sums{rows}.jsonl"
        lines = [
            json.dumps({"problem": f"{n} + 1 = ?", "answer": str(n + 1), "unique_id": f"sum/{n}"}) for n in range(rows)
        ]
        path.write_text("\n".join(lines), encoding="utf-8")
        return str(path)

    return write


def harm_spec(path: str, endpoint: str = "base", **changes: object) -> BenchSpec:
    return BenchSpec(endpoint=endpoint, benchmarks=[BenchmarkSpec(benchmark="strongreject", path=path, **changes)])
