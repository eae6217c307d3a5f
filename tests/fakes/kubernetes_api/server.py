"""The fake API server: addresses and verbs over HTTP/1.1 on a port of this machine, in this process."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

import yaml

from tests.fakes.kubernetes_api import discovery, parts, refusals
from tests.fakes.kubernetes_api.addresses import Address, parse
from tests.fakes.kubernetes_api.faults import Faults, refusal
from tests.fakes.kubernetes_api.objects import Objects
from tests.fakes.kubernetes_api.refusals import Json, Refused
from tests.fakes.kubernetes_api.watching import Dropped, watch

DELETED_IS_SHOWN = ("pods", "services", "serviceaccounts", "persistentvolumeclaims")  # others answer a Status
Answer = Json | Iterator[bytes]


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    body: Any
    content_type: str

    @property
    def manager(self) -> str:
        return self.query.get("fieldManager", "unknown")


@dataclass
class Application:
    """What the server knows, whether it listens or not."""

    objects: Objects
    faults: Faults = field(default_factory=Faults)
    requests: list[tuple[str, str]] = field(default_factory=list)  # (method, path?query) of every one, for tests
    breaks: int = 0  # how often all watches were dropped
    is_up: bool = False

    def answer(self, request: Request) -> tuple[int, Answer]:
        if request.method == "GET" and (known := discovery.answer(self.objects.resources, request.path)) is not None:
            return 200, known
        steps = request.path.strip("/").split("/")
        if steps[-1].endswith("accessreviews") and request.method == "POST":
            return 201, parts.review(steps[-1], request.body)
        address = parse(self.objects.resources, request.path)
        if request.method == "GET" and (address.part == "log" or request.query.get("watch") in ("true", "1")):
            return 200, self._stream(address, request)
        with self.objects.store.changed:
            return getattr(self, f"_{request.method.lower()}")(address, request)  # type: ignore[no-any-return]

    def _stream(self, address: Address, request: Request) -> Iterator[bytes]:
        if address.part == "log":
            pod = self._find(address)
            return parts.log(self.objects, pod, request.query)
        breaks = self.breaks
        query = dict(request.query)
        if address.name:
            query["fieldSelector"] = f"metadata.name={address.name}"
        store = self.objects.store
        return watch(store, address.resource, address.namespace, query, lambda: self.breaks != breaks or not self.is_up)

    def _find(self, address: Address) -> Json:
        return self.objects.store.get(address.resource, address.namespace, address.name)

    def _get(self, address: Address, request: Request) -> tuple[int, Json]:
        if not address.name:
            return 200, self.objects.list(address.resource, address.namespace, request.query)
        found = self._find(address)
        return 200, parts.scale_of(found) if address.part == "scale" else found

    def _post(self, address: Address, request: Request) -> tuple[int, Json]:
        if address.part == "binding":
            return 201, parts.bind_pod(self.objects, self._find(address), request.body)
        if address.part == "eviction":
            return 201, parts.evict(self.objects, self._find(address), request.body)
        return 201, self.objects.create(address.resource, address.namespace, request.body, request.manager)

    def _put(self, address: Address, request: Request) -> tuple[int, Json]:
        old = self._find(address)
        if address.part == "scale":
            return 200, parts.rescaled(self.objects, address, old, request.body)
        return 200, self.objects.replace(address.resource, old, request.body, address.part, request.manager)

    def _patch(self, address: Address, request: Request) -> tuple[int, Json]:
        if request.content_type.startswith("application/apply-patch"):
            is_forced = request.query.get("force") == "true"
            place = (address.namespace, address.name)
            body = {**request.body, "metadata": {**request.body.get("metadata", {}), "name": address.name}}
            return 200, self.objects.apply(address.resource, place, body, request.manager, is_forced)
        old = self._find(address)
        if address.part == "scale":
            return 200, parts.rescaled(self.objects, address, old, {**parts.scale_of(old), **request.body})
        arguments = (request.body, request.content_type, address.part, request.manager)
        return 200, self.objects.patch(address.resource, old, *arguments)

    def _delete(self, address: Address, request: Request) -> tuple[int, Json]:
        options = {**(request.body or {})}
        if "propagationPolicy" in request.query:
            options["propagationPolicy"] = request.query["propagationPolicy"]
        if "gracePeriodSeconds" in request.query:
            options["gracePeriodSeconds"] = int(request.query["gracePeriodSeconds"])
        if not address.name:
            listed = self.objects.list(address.resource, address.namespace, request.query)
            for each in listed["items"]:
                self.objects.delete(address.resource, each, options)
            return 200, listed
        old = self._find(address)
        left = self.objects.delete(address.resource, old, options)
        is_there = self.objects.store.find(address.resource, address.namespace, address.name) is not None
        if is_there or address.resource.plural in DELETED_IS_SHOWN:
            return 200, left
        details = {"name": address.name, "kind": address.resource.plural, "uid": old["metadata"]["uid"]}
        return 200, refusals.status(200, "", "", details)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    application: ClassVar[Application]

    def _do(self) -> None:
        split = urlsplit(self.path)
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        application = self.application
        application.requests.append((self.command, self.path))
        fault = application.faults.take(self.command, self.path)
        try:
            if fault and fault.status:
                raise refusal(fault)
            body = _parsed(data)
            query = dict(parse_qsl(split.query, keep_blank_values=True))
            content_type = self.headers.get("Content-Type", "")
            code, answer = application.answer(Request(self.command, split.path, query, body, content_type))
        except Refused as refused:
            code, answer = refused.code, refused.status()
        if fault and not fault.status:
            self._cut()
        elif isinstance(answer, dict):
            self._send(code, answer)
        else:
            self._stream(answer)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _do

    def _send(self, code: int, answer: Json) -> None:
        payload = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        if code >= 400 and (wait := answer["details"].get("retryAfterSeconds")) is not None:
            self.send_header("Retry-After", f"{wait:g}")
        self.end_headers()
        self.wfile.write(payload)

    def _stream(self, chunks: Iterator[bytes]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for chunk in chunks:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            self.wfile.write(b"0\r\n\r\n")
        except (Dropped, OSError):
            self._cut()

    def _cut(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def _parsed(data: bytes) -> Any:
    """JSON, or the YAML of a server-side apply."""
    if not data:
        return None
    return json.loads(data) if data[:1] in b"{[" else yaml.safe_load(data)


class Listener(ThreadingHTTPServer):
    """Knows its open connections, to cut them when it goes down."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, application: Application, port: int) -> None:
        handler = type("Bound", (Handler,), {"application": application})
        super().__init__(("127.0.0.1", port), handler)
        self.connections: set[socket.socket] = set()
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
