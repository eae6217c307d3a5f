"""lrm runs why: a run's situation in words, and the exit code that goes with it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest
from typer.testing import CliRunner

from lrm_safety import jsonl
from lrm_safety.cli import app, runs
from lrm_safety.clients import Clients
from lrm_safety.nouns import Progress, Run, RunState
from lrm_safety.runs import RunHost
from lrm_safety.runs_service import RunsServicer
from lrm_safety.settings import Settings
from lrm_safety.store import ObjectStore
from lrm_safety.v1 import runs_pb2_grpc

RUNNING, FAILED = RunState.RUN_STATE_RUNNING, RunState.RUN_STATE_FAILED
AT_WORK = Progress(stage="training", done=30, total=100, unit="steps", eta_s=7)
GPU = "for 1 nvidia.com/gpu: 3 nodes have too little nvidia.com/gpu free"


def run(**fields: object) -> Run:
    return Run(**{"id": "training-1", "state": RUNNING, "created_at": 1000, "updated_at": 1990, **fields})


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (run(waiting=GPU), f"training-1 waits: {GPU}"),
        (run(waiting=GPU, progress=AT_WORK), f"training-1 waits: {GPU} (so far: training, 30/100 steps)"),
        (run(progress=AT_WORK), "training-1 is at work: training, 30/100 steps, about 0:07 to go"),
        (
            run(progress=AT_WORK, updated_at=1400),
            "training-1 is at work: training, 30/100 steps, about 0:07 to go; nothing was heard of it for 10 min",
        ),
        (run(), "training-1 was asked for 16 min ago and has not begun to count its work"),
        (run(state=FAILED, error="max_tokens is 1; raise it"), "training-1 failed: max_tokens is 1; raise it"),
        (run(state=RunState.RUN_STATE_DONE, result="tuned@0f"), "training-1 is done: tuned@0f"),
    ],
)
def test_words(asked: Run, words: str) -> None:
    assert runs.explained(asked, now=2000) == words


def test_the_command(settings: Settings, store: ObjectStore, serve, monkeypatch: pytest.MonkeyPatch) -> None:
    def register(server: grpc.Server, settings: Settings) -> list[str]:
        runs_pb2_grpc.add_RunsServicer_to_server(RunsServicer(RunHost(store)), server)
        return []

    @contextmanager
    def connected(_: Settings) -> Iterator[Clients]:
        clients = Clients(settings)
        yield clients
        clients.close()

    serve("bench", register)
    monkeypatch.setattr(runs, "connected", connected)
    failed = run(state=FAILED, error="its image cannot be pulled", epoch=0)
    store.write("runs/training-1/spec.json", jsonl.dumps(failed).encode())
    asked = CliRunner().invoke(app, ["runs", "why", "training-1", "--json"])
    assert asked.exit_code == 3
    assert json.loads(asked.stdout) == {
        "run": "training-1",
        "state": "failed",
        "why": "training-1 failed: its image cannot be pulled",
    }
    assert "its image cannot be pulled" in CliRunner().invoke(app, ["runs", "why", "training-1"]).stdout
