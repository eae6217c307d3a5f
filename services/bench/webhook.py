"""Where others say that a checkpoint has come: S3 events, MLflow's registry, plain JSON; signed, over HTTP.

Nothing that is sent is believed: it wakes the scan, or names a checkpoint that must be in the store. Whatever is wrong
with a request, the answer is a bare 4xx; to one too many at once, a bare 503: they send it again, or the scan finds it.
"""

import io
import json
import re
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote_plus

from lrm_safety import observe
from lrm_safety.errors import Conflict, LrmError, Unavailable
from lrm_safety.settings import Settings
from services.bench.signatures import is_signed
from services.bench.trigger import Trigger

PATH = "/webhook"
MAX_BYTES = 256 * 1024
MAX_NAMED = 100  # checkpoints in one event
MAX_CALLERS = 128
READ_S = 10.0  # for a whole request
FULL = b"HTTP/1.0 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_NAMED = re.compile(r"(?:^|/)checkpoints/([^/@]{1,255})/([0-9a-f]{64})/manifest\.json$")
_REFERENCE = re.compile(r"[^/@\s]{1,255}@[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
log = observe.logger(__name__)


def serve(trigger: Trigger, settings: Settings) -> Callable[[], None]:
    """Listens until what it returns is called. Raises Conflict when the port is taken."""
    handler = type("Handler", (_Handler,), {"trigger": trigger, "secret": settings.webhook_secret})
    try:
        server = _Server((settings.host, settings.webhook_port), handler)
    except OSError as error:
        raise Conflict(
            f"webhook port {settings.webhook_port} is taken ({error.strerror}); set LRM_WEBHOOK_PORT to another"
        ) from error
    threading.Thread(target=server.serve_forever, name="webhook", daemon=True).start()

    def stop() -> None:
        server.shutdown()
        server.server_close()

    return stop


def named(event: Any) -> list[tuple[str, str]]:
    """(checkpoint, commit) of an event; none where it only says that something came. Raises ValueError if malformed."""
    if not isinstance(event, dict):
        raise ValueError("no object")
    if "checkpoint" in event:
        return [_plain(event["checkpoint"], event.get("commit", ""))]
    if isinstance(event.get("Records"), list):
        return [pair for record in event["Records"][:MAX_NAMED] for pair in _of_s3(record)]
    data = event.get("data")
    if "entity" in event and isinstance(data, dict):  # MLflow; a tag may say which of ours it is
        tags = data.get("tags")
        tag = tags.get("lrm_checkpoint") if isinstance(tags, dict) else None
        return [_plain(tag, "")] if tag else []
    raise ValueError("unknown event")


def _plain(checkpoint: Any, commit: Any) -> tuple[str, str]:
    if not (isinstance(checkpoint, str) and _REFERENCE.fullmatch(checkpoint)):
        raise ValueError("no reference")
    if not (isinstance(commit, str) and (not commit or _COMMIT.fullmatch(commit))):
        raise ValueError("no commit")
    return checkpoint, commit


def _of_s3(record: Any) -> list[tuple[str, str]]:
    try:
        key = unquote_plus(record["s3"]["object"]["key"])
    except (KeyError, TypeError):
        raise ValueError("no S3 record") from None
    found = _NAMED.search(key)
    return [(f"{found[1]}@{found[2]}", "")] if found else []


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._free = threading.BoundedSemaphore(MAX_CALLERS)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
            return
        observe.count("lrm_webhook_answered_total", code="503")
        request.sendall(FULL)  # so little never waits for its reader
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.info("webhook_broken_off")


class _Within(io.RawIOBase):
    """What a socket receives until a time (of the monotonic clock). Raises TimeoutError from then on."""

    def __init__(self, received: socket.socket, until: float) -> None:
        self._socket, self._until = received, until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left_s = self._until - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._socket.settimeout(left_s)
        return self._socket.recv_into(buffer)


class _Handler(BaseHTTPRequestHandler):
    trigger: Trigger
    secret: str
    server_version, sys_version = "lrm-safety", ""

    def setup(self) -> None:
        super().setup()
        self.rfile = io.BufferedReader(_Within(self.connection, time.monotonic() + READ_S))

    def do_POST(self) -> None:
        status = self._status()
        observe.count("lrm_webhook_answered_total", code=str(status))
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True

    def _status(self) -> int:
        length = self.headers.get("Content-Length", "")
        if self.path != PATH:
            return 404
        if not (length.isascii() and length.isdecimal() and len(length) < 10):
            return 411
        if int(length) > MAX_BYTES:
            return 413
        body = self.rfile.read(int(length))
        if not is_signed(self.secret, dict(self.headers), body, time.time()):
            return 401
        try:
            announced = named(json.loads(body))
        except (ValueError, RecursionError):
            return 400
        return self._announce(announced)

    def _announce(self, announced: list[tuple[str, str]]) -> int:
        try:
            for checkpoint, commit in announced:
                self.trigger.announce(checkpoint, commit)
        except LrmError as error:
            log.info("webhook_refused", error=str(error))
            return 503 if isinstance(error, Unavailable) else 404
        self.trigger.wake()
        return 202

    def log_message(self, format: str, *args: Any) -> None:
        """The counter and our own log say enough; a path may hold anything."""
