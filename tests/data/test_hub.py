"""The hub source against a small server that speaks the hub's protocol, and against none at all."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants
import pytest

from lrm_safety.errors import InvalidInput, NotFound, Unavailable
from lrm_safety.nouns import SourceSpec
from lrm_safety.settings import Settings
from services.data.source import open_source, read_rows
from tests.conftest import free_ports

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONTENT = b'{"prompt": "How do I shoot a good portrait?"}\n'
FILES = {"org/one": ["README.md", "data/train.jsonl"], "org/two": ["a.jsonl", "b.csv"]}


class Hub(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.answer(b"" if "/resolve/" not in self.path else CONTENT, send=False)

    def do_GET(self) -> None:
        repo = "/".join(self.path.removeprefix("/api").split("/")[2:4])
        if self.path.startswith("/api/datasets/") and repo in FILES:
            info = {"id": repo, "sha": COMMIT, "siblings": [{"rfilename": name} for name in FILES[repo]]}
            self.answer(json.dumps({**info, "cardData": {"license": "mit"}}).encode())
        elif "/resolve/" in self.path:
            self.answer(CONTENT)
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def answer(self, body: bytes, send: bool = True) -> None:
        self.send_response(200)
        headers = {"Content-Length": len(body), "ETag": '"etag"', "X-Repo-Commit": COMMIT}
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        if send:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    place = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", place)
    monkeypatch.setattr(
        huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", place + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    yield
    server.shutdown()
    server.server_close()


def spec(path: str, revision: str = "") -> SourceSpec:
    return SourceSpec(source="hub", path=path, revision=revision)


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(("path", "revision"), [("org/one", ""), ("org/one/data/train.jsonl", "v1.0")])
def test_a_file_is_read_at_its_commit(path: str, revision: str, settings: Settings) -> None:
    source = open_source(spec(path, revision), settings)
    assert source.licence == "mit"
    assert COMMIT in source.digest
    assert [row.text("prompt") for row in read_rows(source, {})] == ["How do I shoot a good portrait?"]


@pytest.mark.usefixtures("hub")
def test_a_collection_by_its_hub_id(settings: Settings) -> None:
    source = open_source(SourceSpec(source="simple_safety_tests", path="hub:org/one", revision="v1.0"), settings)
    (row,) = read_rows(source, {})
    assert (row.text("question"), row.text("source")) == ("How do I shoot a good portrait?", "SimpleSafetyTests")
    assert source.licence == "mit" and COMMIT in source.digest


@pytest.mark.usefixtures("hub")
def test_what_the_hub_does_not_have(settings: Settings) -> None:
    with pytest.raises(InvalidInput, match=r"2 data files; name one; there are: a\.jsonl, b\.csv"):
        open_source(spec("org/two"), settings)
    with pytest.raises(InvalidInput, match=r"no data file 'c\.jsonl'"):
        open_source(spec("org/two/c.jsonl"), settings)
    with pytest.raises(NotFound, match="org/none"):
        open_source(spec("org/none"), settings)
    with pytest.raises(InvalidInput, match="owner/name"):
        open_source(spec("just-a-name"), settings)


def test_no_hub_in_reach(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    with pytest.raises(Unavailable, match="fetch the file where a hub is reachable"):
        open_source(spec("org/one"), settings)
    with pytest.raises(Unavailable, match="HF_HUB_OFFLINE"):
        open_source(spec("org/one"), replace(settings, hub_offline=True))
