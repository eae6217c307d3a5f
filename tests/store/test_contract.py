"""What every object store adapter promises, asked of each of them: a folder, and a real S3 server."""

import hashlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lrm_safety.errors import InvalidInput, NotFound
from lrm_safety.store import ObjectStore, Stat

BIG = 50 << 20
LONG = "x" * 256  # for a file name
LONGER = "/".join(["x" * 200] * 6)  # for an S3 key


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_what_was_written_is_read_back_and_its_etag_is_its_sha256(store: ObjectStore):
    for data in (b"", b"one", os.urandom(3 << 20)):
        assert store.write("a/key", data) == sha256(data)
        assert store.read("a/key") == data
        assert store.stat("a/key") == Stat(size=len(data), etag=sha256(data))


def test_another_client_sees_it(store: ObjectStore, open_again: Callable[[], ObjectStore]):
    store.write("runs/x/result.json", b"{}")
    assert open_again().read("runs/x/result.json") == b"{}"


def test_absent_objects(store: ObjectStore, tmp_path: Path):
    store.write("folder/key", b"1")
    for key in ("nothing", "folder", "folder/key2", "folder/key/deeper"):
        assert store.stat(key) is None
        with pytest.raises(NotFound, match=key):
            store.read(key)
        with pytest.raises(NotFound, match=key):
            store.download(key, tmp_path / "landed")
        store.delete(key)
    assert not (tmp_path / "landed").exists()
    assert store.read("folder/key") == b"1"


def test_create_never_replaces(store: ObjectStore):
    assert store.create("epochs/000001", b"first") is True
    assert store.create("epochs/000001", b"second") is False
    assert store.read("epochs/000001") == b"first"
    assert store.stat("epochs/000001") == Stat(size=5, etag=sha256(b"first"))


def test_of_sixteen_racing_creators_one_wins(open_again: Callable[[], ObjectStore]):
    stores = [open_again() for _ in range(16)]
    start = threading.Barrier(16)

    def create(number: int) -> bool:
        start.wait()
        return stores[number].create("epochs/000001", b"%d" % number)

    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(create, range(16)))
    assert won.count(True) == 1
    assert stores[0].read("epochs/000001") == b"%d" % won.index(True)


def test_readers_of_a_key_under_replacement_see_whole_objects(store: ObjectStore):
    versions = [bytes([number]) * 200_000 for number in range(8)]
    store.write("key", versions[0])
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(lambda: [store.write("key", version) for version in versions * 3])
        seen = [store.read("key")]
        while not writing.done():
            seen.append(store.read("key"))
        writing.result()
    assert all(data in versions for data in seen)


def test_delete(store: ObjectStore):
    store.write("a/b", b"1")
    store.delete("a/b")
    store.delete("a/b")
    assert store.stat("a/b") is None
    assert list(store.list("")) == []
    assert store.create("a/b", b"2")


def test_list_is_in_the_order_of_keys(store: ObjectStore):
    keys = ["a-b", "a.b", "a/b", "a/b-c/d", "a/b.c", "a/é", "aZ", "b/1", "b/10", "b/2", "Z"]
    for key in reversed(keys):
        store.write(key, key.encode())
    assert list(store.list("")) == sorted(keys)
    assert list(store.list("a/")) == ["a/b", "a/b-c/d", "a/b.c", "a/é"]
    assert list(store.list("a/b")) == ["a/b", "a/b-c/d", "a/b.c"]
    assert list(store.list("b/1")) == ["b/1", "b/10"]
    assert list(store.list("a/b-c")) == ["a/b-c/d"]
    assert list(store.list("nothing/")) == []
    assert list(store.list("a/b/")) == []


def test_list_goes_past_one_page(store: ObjectStore):
    keys = sorted([f"page/{number}" for number in range(520)] + [f"page/{number}-x/y" for number in range(520)])
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.write(key, b""), keys))
    assert list(store.list("page/")) == keys


@pytest.mark.parametrize(
    "key",
    ["", "/a", "a/", "a//b", "..", "a/../b", "./a", "a/.", "a\\b", "a\nb", "a\0b", ".tmp/a", "\ud800", LONG, LONGER],
    ids=lambda key: ascii(key[:9]),
)
def test_keys_that_are_refused(store: ObjectStore, tmp_path: Path, key: str):
    (tmp_path / "file").write_bytes(b"1")
    for use in (
        lambda: store.read(key),
        lambda: store.write(key, b""),
        lambda: store.create(key, b""),
        lambda: store.stat(key),
        lambda: store.delete(key),
        lambda: store.upload(tmp_path / "file", key),
        lambda: store.download(key, tmp_path / "landed"),
    ):
        with pytest.raises(InvalidInput, match="store key"):
            use()


@pytest.mark.parametrize("prefix", ["/", "../", "a/../b", "a//"])
def test_prefixes_that_are_refused(store: ObjectStore, prefix: str):
    with pytest.raises(InvalidInput):
        list(store.list(prefix))


names = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\"), min_size=1, max_size=12)
some_keys = (
    st.lists(names, min_size=1, max_size=3).map("/".join).filter(lambda key: not {".", ".."} & {*key.split("/")})
)


@given(keys=st.sets(some_keys, min_size=1, max_size=5))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_printable_key_works(store: ObjectStore, keys: set[str]):
    kept = {key for key in keys if not any(other.startswith(key + "/") for other in keys)}
    for key in kept:
        store.write(key, key.encode())
    assert list(store.list("")) == sorted(kept)
    assert all(store.read(key) == key.encode() for key in kept)
    for key in kept:
        store.delete(key)


def test_a_big_file_goes_up_and_comes_down(store: ObjectStore, tmp_path: Path):
    data = os.urandom(BIG)
    (tmp_path / "up").write_bytes(data)
    assert store.upload(tmp_path / "up", "weights/model.safetensors") == sha256(data)
    assert store.stat("weights/model.safetensors") == Stat(size=BIG, etag=sha256(data))
    landed = tmp_path / "new" / "folder" / "down"
    assert store.download("weights/model.safetensors", landed) == sha256(data)
    assert sha256(landed.read_bytes()) == sha256(data)
    assert os.listdir(landed.parent) == ["down"]


def test_download_replaces_and_upload_needs_a_file(store: ObjectStore, tmp_path: Path):
    store.write("key", b"new")
    (tmp_path / "there").write_bytes(b"an older and longer one")
    store.download("key", tmp_path / "there")
    assert (tmp_path / "there").read_bytes() == b"new"
    with pytest.raises(NotFound, match="no file"):
        store.upload(tmp_path / "nothing", "key2")
    assert store.stat("key2") is None
