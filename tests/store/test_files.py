"""What only the folder adapter has to withstand: killed writers, full and read-only disks, other people's files."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lrm_safety.errors import Conflict
from lrm_safety.store.files import FileStore

WRITES = """
import os, resource, sys
from pathlib import Path
from lrm_safety.errors import LrmError
from lrm_safety.store.files import FileStore

root, limit = Path(sys.argv[1]), int(sys.argv[2])
(root / "source").write_bytes(bytes(2 << 20))
store = FileStore(root / "store")
store.write("kept", b"old")
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
for act in (
    lambda: store.write("kept", bytes(4 << 20)),
    lambda: store.create("new", bytes(4 << 20)),
    lambda: store.upload(root / "source", "new"),
    lambda: store.download("big", root / "landing" / "down"),
):
    (root / "store" / "big").symlink_to(root / "source") if not (root / "store" / "big").exists() else None
    try:
        act()
    except LrmError as error:
        print(type(error).__name__, error)
print(sorted(path.name for path in (root / "store").rglob("*")), os.listdir(root / "landing"), store.read("kept"))
"""

FULL_DISK = 'mount -t tmpfs -o size=3m tmpfs "$1" && exec "$2" -c "$3" "$1" 0'
READ_ONLY = 'mount -t tmpfs tmpfs "$1" && mount -o remount,ro "$1" && exec "$2" -c "$3" "$1"'
NO_NAMESPACE = subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode != 0


def in_namespace(script: str, folder: Path, program: str) -> str:
    """What `program` prints, run where it may mount things on `folder` that nobody else sees."""
    command = ["unshare", "-rm", "sh", "-c", script, "sh", str(folder), sys.executable, program]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def assert_refused_and_clean(printed: str, folder: Path) -> None:
    *errors, left = printed.splitlines()
    assert [line.split()[0] for line in errors] == ["Exhausted"] * 4
    assert all(f"make room for {folder}/store " in line for line in errors[:3])
    assert f"make room for {folder}/landing " in errors[3]
    assert left == "['.tmp', 'big', 'kept'] [] b'old'"


@pytest.mark.skipif(NO_NAMESPACE, reason="needs user and mount namespaces")
def test_a_full_disk(tmp_path: Path):
    assert_refused_and_clean(in_namespace(FULL_DISK, tmp_path, WRITES), tmp_path)


def test_a_limit_on_file_sizes(tmp_path: Path):
    command = [sys.executable, "-c", WRITES, str(tmp_path), str(1 << 20)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert_refused_and_clean(printed, tmp_path)


@pytest.mark.skipif(NO_NAMESPACE, reason="needs user and mount namespaces")
def test_a_read_only_disk(tmp_path: Path):
    opens = """
import sys
from pathlib import Path
from lrm_safety.errors import InvalidInput
from lrm_safety.store.files import FileStore
try:
    FileStore(Path(sys.argv[1]) / "store")
except InvalidInput as error:
    print(error)
"""
    printed = in_namespace(READ_ONLY, tmp_path, opens)
    assert "Read-only" in printed
    assert f"{tmp_path}/store" in printed


def test_a_writer_killed_in_the_middle_leaves_no_object(tmp_path: Path):
    """The writer uploads from a pipe that stops half way, so it is killed exactly in the middle."""
    store = FileStore(tmp_path / "store")
    store.write("key", b"old")
    os.mkfifo(tmp_path / "pipe")
    program = (
        "import sys; from pathlib import Path; from lrm_safety.store.files import FileStore\n"
        "folder = Path(sys.argv[1]); FileStore(folder / 'store').upload(folder / 'pipe', 'key')"
    )
    writer = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)])
    with (tmp_path / "pipe").open("wb") as pipe:
        pipe.write(bytes(3 << 20))  # more than the pipe holds: the writer has read most of it
        pipe.flush()
        FileStore(tmp_path / "store")  # opening must not sweep what a living writer is at
        assert len(os.listdir(tmp_path / "store" / ".tmp")) == 1
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    assert len(os.listdir(tmp_path / "store" / ".tmp")) == 1
    assert store.read("key") == b"old"
    assert list(store.list("")) == ["key"]
    assert list(FileStore(tmp_path / "store").list("")) == ["key"]
    assert os.listdir(tmp_path / "store" / ".tmp") == []


def test_stat_is_right_for_bytes_that_somebody_else_wrote(tmp_path: Path):
    store = FileStore(tmp_path)
    store.write("key", b"first")
    before = store.stat("key")
    with (tmp_path / "key").open("r+b") as file:
        file.write(b"F")
    assert before is not None
    assert store.stat("key").etag == hashlib.sha256(b"First").hexdigest() != before.etag


def test_a_key_cannot_be_a_folder_too(tmp_path: Path):
    store = FileStore(tmp_path)
    store.write("a/b", b"1")
    for refused in (
        lambda: store.write("a", b""),
        lambda: store.create("a", b""),
        lambda: store.write("a/b/c", b""),
        lambda: store.create("a/b/c", b""),
    ):
        with pytest.raises(Conflict, match="choose another name"):
            refused()
    assert list(store.list("")) == ["a/b"]
    assert os.listdir(tmp_path / ".tmp") == []


@pytest.mark.parametrize("put", ["write", "create"])
def test_a_name_is_free_again_once_nothing_is_below_it(tmp_path: Path, put: str):
    store = FileStore(tmp_path)
    store.write("a/b/c", b"below")
    store.delete("a/b/c")
    getattr(store, put)("a", b"there")
    assert list(store.list("")) == ["a"]
    assert store.read("a") == b"there"


def test_the_root_may_be_removed_while_open(tmp_path: Path):
    store = FileStore(tmp_path / "store")
    (tmp_path / "store" / ".tmp").rmdir()
    (tmp_path / "store").rmdir()
    assert list(store.list("")) == []
    store.write("a/b", b"1")
    assert store.read("a/b") == b"1"
