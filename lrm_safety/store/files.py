"""The object store on a folder: the default, and the reference for what an adapter promises."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from lrm_safety.errors import NotFound
from lrm_safety.store import Stat
from lrm_safety.store.keys import SCRATCH, check_key, check_prefix
from lrm_safety.store.landing import failures, landing, make_folders, sweep

ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


class FileStore:
    """Objects are plain files `root/<key>`, so people may look, copy and delete with the tools they know.

    A write goes to `root/.tmp`, is synced, then renamed (`write`) or hard-linked (`create`) into place, and the folder
    is synced too. `stat` computes the sha256 when asked (about 1.5 GB/s) and keeps nothing, so it is right whoever
    wrote the file; size and digest come from one open file and belong together. One limit beside S3: `a` and `a/b`
    cannot both be keys (Conflict).
    """

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._scratch = self._root / SCRATCH
        with failures("opening the store", self._root):
            make_folders(self._scratch)
            sweep(self._scratch)

    def read(self, key: str) -> bytes:
        path = self._path(key)
        with failures(f"reading {key}", self._root):
            try:
                return path.read_bytes()
            except ABSENT:
                raise _not_found(key, self._root) from None

    def write(self, key: str, data: bytes) -> str:
        path = self._path(key)
        with failures(f"writing {key}", self._root), landing(self._scratch) as file:
            file.write(data)
            return file.replace(path)

    def create(self, key: str, data: bytes) -> bool:
        path = self._path(key)
        with failures(f"creating {key}", self._root):
            if path.is_file():
                return False
            with landing(self._scratch) as file:
                file.write(data)
                return file.link(path)

    def list(self, prefix: str) -> Iterator[str]:
        folder, slash, stem = check_prefix(prefix).rpartition("/")
        with failures(f"listing {prefix}", self._root):
            yield from _walk(self._root / folder, folder + slash, stem)

    def stat(self, key: str) -> Stat | None:
        path = self._path(key)
        with failures(f"reading {key}", self._root):
            try:
                with path.open("rb") as file:
                    etag = hashlib.file_digest(file, "sha256").hexdigest()
                    return Stat(size=os.fstat(file.fileno()).st_size, etag=etag)
            except ABSENT:
                return None

    def delete(self, key: str) -> None:
        path = self._path(key)
        with failures(f"deleting {key}", self._root):
            try:
                path.unlink()
            except ABSENT:
                return

    def upload(self, path: Path, key: str) -> str:
        target = self._path(key)
        with failures(f"uploading {key}", self._root):
            try:
                source = path.open("rb")
            except ABSENT:
                raise NotFound(f"there is no file {path} to upload as {key}") from None
            with source, landing(self._scratch) as file:
                file.copy(source)
                return file.replace(target)

    def download(self, key: str, path: Path) -> str:
        with failures(f"downloading {key}", path.parent):
            try:
                source = self._path(key).open("rb")
            except ABSENT:
                raise _not_found(key, self._root) from None
            with source, landing(path.parent) as file:
                sweep(path.parent)
                file.copy(source)
                return file.replace(path)

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)


def _walk(folder: Path, parent: str, stem: str = "") -> Iterator[str]:
    """Keys below `folder` whose next part starts with `stem`, in the order of the whole key: 'a-b' before 'a/b'."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name + "/" * entry.is_dir() for entry in entries if entry.name.startswith(stem))
    except ABSENT:
        return
    for name in names:
        if not name.endswith("/"):
            yield parent + name
        elif parent + name != f"{SCRATCH}/":
            yield from _walk(folder / name, parent + name)


def _not_found(key: str, root: Path) -> NotFound:
    return NotFound(f"the store at {root} has no object {key}")
