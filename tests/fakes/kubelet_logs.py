"""What an API server asks a kubelet for logs, over HTTPS: GET /containerLogs/<namespace>/<pod>/<container>."""

import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

LOOK_EVERY_S = 0.1
# namespace, pod, container -> (its log, is it still written to?); None when there is no such container
Find = Callable[[str, str, str], tuple[Path, Callable[[], bool]] | None]


class LogServer(ThreadingHTTPServer):
    """With a certificate of its own making: API servers do not check it unless told to."""

    daemon_threads = True

    def __init__(self, folder: Path, find: Find) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.find = find
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate(folder))
        self.context = context
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()

    def finish_request(self, request: object, client_address: object) -> None:
        """The handshake is the thread's business, not the listener's."""
        super().finish_request(self.context.wrap_socket(request, server_side=True), client_address)  # type: ignore[arg-type]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: LogServer

    def do_GET(self) -> None:
        split = urlsplit(self.path)
        query = dict(parse_qsl(split.query))
        _, _, *place = split.path.split("/")
        found = self.server.find(*place) if len(place) == 3 else None
        if found is None:
            message = f"container {place[-1]!r} in pod {place[1:2]} is waiting to start"
            self.send_error(404, message)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for chunk in _chunks(*found, query):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def certificate(folder: Path) -> tuple[Path, Path]:
    """(certificate, key) for 127.0.0.1, made on the first call."""
    cert, key = folder / "kubelet.crt", folder / "kubelet.key"
    if not cert.exists():
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=kubelet"]
        names = ["-addext", "subjectAltName=IP:127.0.0.1"]
        subprocess.run([*command, *names, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    return cert, key


def _chunks(log: Path, is_written: Callable[[], bool], query: dict[str, str]) -> Iterator[bytes]:
    data = log.read_bytes() if log.exists() else b""
    position = len(data)
    if "tailLines" in query:
        lines = int(query["tailLines"])
        data = b"".join(data.splitlines(keepends=True)[-lines:] if lines else [])
    if "limitBytes" in query:
        data = data[: int(query["limitBytes"])]
    if data:
        yield data
    while query.get("follow") == "true":
        goes_on = is_written()
        with log.open("rb") as file:
            file.seek(position)
            data = file.read()
        position += len(data)
        if data:
            yield data
        if not goes_on:
            return
        time.sleep(LOOK_EVERY_S)
