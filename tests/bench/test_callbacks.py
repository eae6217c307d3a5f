"""Who is told of a verdict: real HTTP servers hear it once, whatever goes wrong before; and no sample."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lrm_safety import jsonl
from lrm_safety.nouns import (
    Callback,
    Comparison,
    Decision,
    GateSpec,
    Interval,
    Outcome,
    RecipeOutcome,
    RoleDecision,
    Run,
    RunSpec,
    RunState,
)
from lrm_safety.settings import Settings
from lrm_safety.store import ObjectStore
from services.bench import callbacks
from services.bench.callbacks import Courier
from services.bench.signatures import is_signed
from tests.bench.test_evaluate import wait_for

COMMIT = "c" * 40
TEXT = "what a model said"


@dataclass
class Heard:
    """A server that answers with `statuses` in turn, then 200; and keeps what it was sent."""

    statuses: list[int] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def heard() -> Iterator[Heard]:
    made = Heard()

    class Answering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            made.requests.append((self.path, dict(self.headers), body))
            self.send_response(made.statuses.pop(0) if made.statuses else 200)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    made.url = f"http://127.0.0.1:{server.server_port}"
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture
def courier(store: ObjectStore, settings: Settings, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> Courier:
    monkeypatch.setattr(callbacks, "PAUSE_S", 0.0)
    told = replace(settings, callback_secret="of the tests", github_token="token", github_api=heard.url)
    return Courier(store, told)


def deliver(courier: Courier) -> None:
    courier.deliver()
    courier.wait()


def a_run(store: ObjectStore, outcome: "Outcome.ValueType", state: "RunState.ValueType" = 3) -> Run:
    run = Run(id="gate-1", kind="gate", state=state, updated_at=time.time())
    run.spec.CopyFrom(RunSpec(gate=GateSpec(checkpoint="tuned@1", baseline="base@1")))
    store.write("runs/gate-1/state.json", jsonl.dumps(run).encode())
    found = Comparison(pairs=40, difference=0.1, interval=Interval(low=0.05, high=0.2))
    role = RoleDecision(role="harm", outcome=outcome, margin=0.02, comparison=found, reason=TEXT)
    decision = Decision(run="gate-1", outcome=outcome, roles=[role], reasons=[TEXT])
    store.write("runs/gate-1/outcome.json", jsonl.dumps(RecipeOutcome(run="gate-1", decision=decision)).encode())
    return run


PASS, BLOCK, OPEN = Outcome.OUTCOME_PASS, Outcome.OUTCOME_BLOCK, Outcome.OUTCOME_INCONCLUSIVE
DONE, FAILED, RUNNING = RunState.RUN_STATE_DONE, RunState.RUN_STATE_FAILED, RunState.RUN_STATE_RUNNING


@pytest.mark.parametrize(
    ("outcome", "state", "expected"),
    [(PASS, DONE, "success"), (BLOCK, DONE, "failure"), (OPEN, DONE, "error"), (PASS, FAILED, "error")],
)
def test_github_hears_a_commit_status(
    courier: Courier, store: ObjectStore, heard: Heard, outcome: int, state: int, expected: str
) -> None:
    run = a_run(store, outcome, state)
    courier.note(run, [Callback(github="acme/models")], COMMIT)
    deliver(courier)
    ((path, headers, body),) = heard.requests
    said = json.loads(body)
    assert path == f"/repos/acme/models/statuses/{COMMIT}"
    assert headers["Authorization"] == "Bearer token"
    assert (said["state"], said["context"]) == (expected, "lrm-safety/tuned")
    assert len(said["description"]) <= 140
    deliver(courier)
    assert len(heard.requests) == 1


def test_a_webhook_hears_numbers_and_no_text_signed(courier: Courier, store: ObjectStore, heard: Heard) -> None:
    run = a_run(store, BLOCK)
    courier.note(run, [Callback(url=f"{heard.url}/hook")], "")
    deliver(courier)
    ((path, headers, body),) = heard.requests
    assert path == "/hook"
    assert "Authorization" not in headers
    assert is_signed("of the tests", headers, body, time.time())
    assert not is_signed("another", headers, body, time.time())
    said = json.loads(body)
    assert (said["run"], said["checkpoint"], said["verdict"]) == ("gate-1", "tuned@1", "BLOCK")
    assert said["roles"][0]["worsening"] == 0.1
    assert TEXT not in body.decode()


def test_it_is_tried_again_and_told_once(
    courier: Courier, store: ObjectStore, heard: Heard, settings: Settings
) -> None:
    run = a_run(store, PASS)
    heard.statuses = [500, 429, 503]
    asked = [Callback(url=heard.url)]
    for _ in range(3):
        courier.note(run, asked, "")
        deliver(courier)
    assert len(heard.requests) == 3
    deliver(Courier(store, settings))  # another process goes on: the memory is the store
    assert len(heard.requests) == 4
    courier.note(run, asked, "")
    deliver(courier)
    assert len(heard.requests) == 4
    assert len({headers["X-Lrm-Delivery"] for _, headers, _ in heard.requests}) == 1
    assert not list(store.list("callbacks/"))


def test_pauses_grow(courier: Courier, store: ObjectStore, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks, "PAUSE_S", 30.0)
    courier.note(a_run(store, PASS), [Callback(url="http://127.0.0.1:9/nobody")], "")
    deliver(courier)
    ((not_before, pause_s),) = courier._pauses.values()
    assert pause_s == 60
    assert not_before > time.monotonic() + 20


def test_what_will_never_be_taken_is_given_up(courier: Courier, store: ObjectStore, heard: Heard) -> None:
    run = a_run(store, PASS)
    for statuses, callback in (
        ([404], Callback(url=f"{heard.url}/gone")),
        ([302], Callback(url=f"{heard.url}/moved")),  # a redirect is not followed: it could take a token elsewhere
        ([], Callback(github="acme/models")),  # without a commit
    ):
        heard.statuses = statuses
        courier.note(run, [callback], "")
        deliver(courier)
        deliver(courier)
    assert [path for path, _, _ in heard.requests] == ["/gone", "/moved"]
    assert not list(store.list("callbacks/"))
    run.updated_at -= callbacks.GIVE_UP_S
    store.write("runs/gate-1/state.json", jsonl.dumps(run).encode())
    courier.note(run, [Callback(url="http://127.0.0.1:9/nobody")], "")
    deliver(courier)
    assert not list(store.list("callbacks/"))


def test_nobody_hears_of_a_run_that_goes_on_and_of_one_asked_again_twice(
    courier: Courier, store: ObjectStore, heard: Heard
) -> None:
    asked = [Callback(url=heard.url)]
    courier.note(a_run(store, PASS, RUNNING), asked, "")
    deliver(courier)
    assert not heard.requests
    failed = a_run(store, PASS, FAILED)
    deliver(courier)
    courier.note(failed, asked, "")  # asked for again after it failed, it may end with a verdict
    a_run(store, PASS, DONE)
    deliver(courier)
    assert [json.loads(body)["verdict"] for _, _, body in heard.requests] == ["ERROR", "PASS"]


def test_who_answers_slowly_holds_up_no_scan_and_no_other(courier: Courier, store: ObjectStore, heard: Heard) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the connection and never answers
        asked = [Callback(url=f"http://127.0.0.1:{silent.getsockname()[1]}/{n}") for n in range(callbacks.AT_ONCE - 1)]
        courier.note(a_run(store, PASS), [*asked, Callback(url=heard.url)], "")
        for _ in range(3):
            courier.deliver()  # as often as it scans: each is told once at a time
        wait_for(lambda: heard.requests)
        assert len(list(store.list("callbacks/"))) >= len(asked), "the slow ones had been waited for"
        assert len(courier._tellers) <= callbacks.AT_ONCE
    courier.wait()
    assert len(heard.requests) == 1
