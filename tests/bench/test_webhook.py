"""The webhook over real HTTP: who may say that a checkpoint has come, and what comes of it."""

import base64
import contextlib
import hashlib
import hmac
import http.client
import json
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from lrm_safety import serving
from lrm_safety.clients import Clients, rpc
from lrm_safety.errors import Conflict
from lrm_safety.nouns import Checkpoint, ListRunsRequest, RegisterPolicyRequest
from lrm_safety.settings import Settings
from lrm_safety.store import ObjectStore
from services.bench import service, trigger, webhook
from services.bench.signatures import sign
from tests.bench.gated import DeployingInference, gate_policy, named, publish
from tests.bench.scripted import ScriptedJudge
from tests.conftest import free_ports

SECRET = "of the tests"
DIGEST = "0" * 64


@dataclass
class Told:
    """A trigger that only notes what it is told; of one checkpoint it has not heard."""

    announced: list[tuple[str, str]] = field(default_factory=list)
    woken: int = 0

    def announce(self, checkpoint: str, commit: str = "") -> None:
        self.announced.append((checkpoint, commit))

    def wake(self) -> None:
        self.woken += 1


@pytest.fixture
def listening(settings: Settings) -> Settings:
    return replace(settings, webhook_secret=SECRET, webhook_port=free_ports(1)[0])


@pytest.fixture
def told(listening: Settings) -> Told:
    made = Told()
    stop = webhook.serve(made, listening)  # type: ignore[arg-type]
    yield made
    stop()


def post(settings: Settings, body: bytes, headers: dict[str, str] | None = None, path: str = webhook.PATH) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", settings.webhook_port, timeout=20)
    if headers is None:
        headers = {"X-Lrm-Signature": sign(SECRET, body, time.time())}
    connection.request("POST", path, body, headers)
    answer = connection.getresponse()
    assert answer.read() == b""  # never a detail
    connection.close()
    return answer.status


def test_every_form_of_event_is_understood(told: Told, listening: Settings) -> None:
    key = f"lrm/checkpoints/tuned%2Bone/{DIGEST}/manifest.json"
    record = {"eventName": "s3:ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, "object": {"key": key}}}
    weights = {"s3": {"object": {"key": f"checkpoints/tuned/{DIGEST}/model.safetensors"}}}
    mlflow = {"entity": "model_version", "action": "created", "timestamp": "now", "data": {"name": "m", "version": "3"}}
    tagged = {**mlflow, "data": {"name": "m", "tags": {"lrm_checkpoint": f"tuned@{DIGEST}"}}}
    for event in (
        {"checkpoint": f"tuned@{DIGEST}"},
        {"checkpoint": f"tuned@{DIGEST}", "commit": "a" * 40},
        {"Records": [record, weights]},
        mlflow,
        tagged,
    ):
        assert post(listening, json.dumps(event).encode()) == 202
    assert told.announced == [
        (f"tuned@{DIGEST}", ""),
        (f"tuned@{DIGEST}", "a" * 40),
        (f"tuned+one@{DIGEST}", ""),
        (f"tuned@{DIGEST}", ""),
    ]
    assert told.woken == 5


def test_mlflows_own_signature_is_understood(told: Told, listening: Settings) -> None:
    body = b'{"entity": "model_version", "data": {"name": "m"}}'
    at = str(int(time.time()))
    mac = hmac.new(SECRET.encode(), f"d-1.{at}.".encode() + body, hashlib.sha256).digest()
    headers = {"X-MLflow-Delivery-Id": "d-1", "X-MLflow-Timestamp": at}
    good = "v1," + base64.b64encode(mac).decode()
    assert post(listening, body, {**headers, "X-MLflow-Signature": good}) == 202
    assert post(listening, body, {**headers, "X-MLflow-Signature": good, "X-MLflow-Delivery-Id": "d-2"}) == 401


def test_whatever_is_wrong_is_refused_without_a_word(told: Told, listening: Settings) -> None:
    body = json.dumps({"checkpoint": f"tuned@{DIGEST}"}).encode()
    now = time.time()
    for headers in (
        {},
        {"X-Lrm-Signature": ""},
        {"X-Lrm-Signature": "t=,v1="},
        {"X-Lrm-Signature": sign("another secret", body, now)},
        {"X-Lrm-Signature": sign(SECRET, body + b" ", now)},
        {"X-Lrm-Signature": sign(SECRET, body, now - 600)},  # replayed
        {"X-Lrm-Signature": sign(SECRET, body, now + 600)},
        {"X-Lrm-Signature": sign(SECRET, body, now).replace("t=", "t=9")},
        {"X-Lrm-Signature": "t=²,v1=é".encode().decode("latin-1")},
    ):
        assert post(listening, body, headers) == 401, headers
    for bad in (
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"checkpoint": 5}',
        b'{"checkpoint": "tuned"}',
        b'{"Records": [5]}',
        b"{}",
    ):
        assert post(listening, bad) == 400, bad
    assert post(listening, b'{"checkpoint": "../x@' + DIGEST.encode() + b'"}') == 400
    assert post(listening, b"[" * 100_000) == 400
    assert post(listening, json.dumps({"checkpoint": f"tuned@{DIGEST}", "commit": "main"}).encode()) == 400
    assert post(listening, body, path="/other") == 404
    assert _raw(listening, b"POST /webhook HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n").startswith(b"HTTP/1.0 413")
    assert _raw(listening, b"POST /webhook HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.0 411")
    assert not told.announced
    assert not told.woken


def test_who_sends_slowly_is_cut_off_and_one_too_many_is_told_at_once(
    told: Told, listening: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "READ_S", 1.0)
    at = ("127.0.0.1", listening.webhook_port)
    slow = [socket.create_connection(at, timeout=10) for _ in range(webhook.MAX_CALLERS)]
    slow[0].sendall(b"POST /webhook HTTP/1.1\r\nContent-Length: 100\r\n\r\n")
    with socket.create_connection(at, timeout=10) as late:
        assert late.recv(1000).startswith(b"HTTP/1.0 503")
    until = time.monotonic() + 10
    with contextlib.suppress(ConnectionError):
        while time.monotonic() < until:
            slow[0].sendall(b"x")  # each byte well within READ_S, the whole request not
            time.sleep(0.1)
    assert time.monotonic() < until
    for each in slow:
        each.close()
    assert post(listening, json.dumps({"checkpoint": f"tuned@{DIGEST}"}).encode()) == 202


def test_off_without_a_secret_and_a_taken_port_is_said(
    settings: Settings, serve: Callable[..., serving.Server]
) -> None:
    (port,) = free_ports(1)
    serve("bench", service.register, webhook_port=port)
    with pytest.raises(ConnectionRefusedError):
        post(replace(settings, webhook_port=port), b"{}")
    with socket.create_server(("127.0.0.1", port)), pytest.raises(Conflict, match="LRM_WEBHOOK_PORT"):
        webhook.serve(Told(), replace(settings, webhook_port=port))  # type: ignore[arg-type]


def test_fifty_announcements_at_once_make_one_run(
    listening: Settings,
    clients: Clients,
    store: ObjectStore,
    serve: Callable[..., serving.Server],
    harm_file: Callable[[int], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trigger, "EVERY_S", 0.1)
    inference = DeployingInference(store=store)
    serve("inference", inference.register)
    serve("judge", ScriptedJudge().register)
    serve("bench", service.register, webhook_secret=SECRET, webhook_port=listening.webhook_port)
    base = publish(store, tmp_path / "base", "base", "good")
    rpc(clients.bench.RegisterPolicy, RegisterPolicyRequest(policy=gate_policy(harm_file(30))))
    made: Checkpoint = publish(store, tmp_path / "tuned", "tuned", "good, tuned", named(base))
    body = json.dumps({"checkpoint": named(made)}).encode()
    with ThreadPoolExecutor(50) as pool:
        assert set(pool.map(lambda _: post(listening, body), range(50))) == {202}
    assert len(rpc(clients.runs("bench").ListRuns, ListRunsRequest(kind="gate")).runs) == 1
    assert post(listening, json.dumps({"checkpoint": f"tuned@{DIGEST}"}).encode()) == 404  # it must be in the store


def _raw(settings: Settings, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", settings.webhook_port), timeout=10) as connection:
        connection.sendall(request)
        return connection.recv(1000)
