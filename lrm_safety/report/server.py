"""The viewer's web server: loopback only, reads only, and logs no address."""

import html
import json
import re
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from lrm_safety import observe
from lrm_safety.errors import Conflict, InvalidInput, LrmError, NotFound
from lrm_safety.report.viewer import Viewer, problem

HOST = "127.0.0.1"
MOST_BODY = 64 * 1024  # bytes of a request
RUN = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}")
DATASET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}(@[0-9a-f]{8,64})?")
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
POLICY = re.compile(r'Content-Security-Policy" content="([^"]*)"')
log = observe.logger(__name__)


class ViewServer(ThreadingHTTPServer):
    """Serves until `shutdown`. Only programs of this machine reach it, and only under its own name: a page elsewhere
    that points another name at it gets no answer.
    """

    daemon_threads = True

    def __init__(self, viewer: Viewer, port: int = 0) -> None:
        """Port 0: any free one. Raises Conflict when the port is in use."""
        self.viewer = viewer
        try:
            super().__init__((HOST, port), _Request)
        except OSError as error:
            raise Conflict(
                f"port {port} cannot be used ({error.strerror}); name another with --port (of bench: LRM_VIEW_PORT), "
                "or 0 for any free one"
            ) from None
        self.names = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that has gone is no news; what goes wrong in a page is dealt with where it is made."""

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_port}/"


class _Request(BaseHTTPRequestHandler):
    server: ViewServer
    protocol_version = "HTTP/1.1"
    timeout = 30
    server_version, sys_version = "lrm", ""

    def do_GET(self) -> None:
        self._answer(lambda: (_page(self.server.viewer, self.path), "text/html"))

    def do_POST(self) -> None:
        self._answer(lambda: (self._find(), "application/json"))

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: addresses name runs, and a search's words are nobody's business."""

    def _find(self) -> str:
        length = self.headers.get("Content-Length", "")
        if urlsplit(self.path).path != "/samples/find":
            raise NotFound("there is no such page")
        if not length.isdecimal() or int(length) > MOST_BODY:
            raise InvalidInput(f"expected JSON of at most {MOST_BODY} bytes")
        try:
            asked = json.loads(self.rfile.read(int(length)))
        except ValueError:
            raise InvalidInput("expected JSON") from None
        if not isinstance(asked, dict):
            raise InvalidInput("expected a JSON object")
        for run in asked.get("runs") or []:
            _run(run)
        return self.server.viewer.find(asked)

    def _answer(self, make: Callable[[], tuple[str, str]]) -> None:
        """An edge: an error of ours becomes a page that says it, any other one without details."""
        try:
            if self.headers.get("Host") not in self.server.names:
                raise InvalidInput(f"open {self.server.url} on this machine")
            status, (text, kind) = 200, make()
        except NotFound as error:
            status, (text, kind) = 404, (problem("Not there", str(error)), "text/html")
        except InvalidInput as error:
            status, (text, kind) = 400, (problem("Not understood", str(error)), "text/html")
        except LrmError as error:
            status, (text, kind) = 503, (problem("Not to be had now", str(error)), "text/html")
        except Exception as error:  # noqa: BLE001  a defect of ours must not end the server, nor show what it read
            log.error("page_failed", error=type(error).__name__)
            status, (text, kind) = 500, (problem("A defect", f"{type(error).__name__}; see the terminal"), "text/html")
        self._send(status, text.encode(), kind)

    def _send(self, status: int, body: bytes, kind: str) -> None:
        policy = POLICY.search(body[:2000].decode(errors="ignore"))
        self.close_connection = status >= 400  # what it sent may be unread
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        rules = html.unescape(policy[1]) if policy else "default-src 'none'"
        self.send_header("Content-Security-Policy", f"{rules}; frame-ancestors 'none'")
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _page(viewer: Viewer, address: str) -> str:
    """Raises NotFound for an address that leads nowhere."""
    path, query = urlsplit(address).path, parse_qs(urlsplit(address).query)
    plain = {"/": viewer.overview, "/pareto": viewer.pareto, "/datasets": viewer.datasets, "/cost": viewer.cost}
    if path in plain:
        return plain[path]()
    if path == "/flips":
        return viewer.flips(*(_run(query.get(side, [""])[0]) for side in ("baseline", "candidate")))
    kind, _, run = path.removeprefix("/").partition("/")
    if kind == "datasets":
        if not DATASET.fullmatch(run):
            raise InvalidInput("that is not the reference of a dataset; choose one on the page of datasets")
        return viewer.dataset(run)
    shows = {"runs": viewer.run, "samples": viewer.samples}
    if kind not in shows:
        raise NotFound("there is no such page")
    return shows[kind](_run(run))


def _run(text: object) -> str:
    if not isinstance(text, str) or not RUN.fullmatch(text):
        raise InvalidInput("that is not the id of a run; choose one on the page of checkpoints")
    return text
