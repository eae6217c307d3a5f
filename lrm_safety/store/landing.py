"""A file that appears whole or not at all: written under a temporary name, synced, then moved or linked into its place.

The writer holds a lock (flock) on its temporary file as long as it lives, however it dies; so an unlocked one is a
dead writer's, and `sweep` may remove it, also when the writer was on another machine of a shared file system.
"""

import errno
import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from lrm_safety import observe
from lrm_safety.errors import Conflict, Exhausted, InvalidInput, LrmError, NotFound, Unavailable

CHUNK = 1 << 20  # bytes copied at a time
SUFFIX = ".lrm-part"  # of temporary files, which may lie in any folder that is downloaded to
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)


class Landing:
    """A file on its way to its place. Each `write` also feeds the sha256, so nothing is read twice."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self._path = path
        self._hash = hashlib.sha256()

    def write(self, data: bytes) -> None:
        self._hash.update(data)
        self._file.write(data)

    def copy(self, source: BinaryIO) -> None:
        while chunk := source.read(CHUNK):
            self.write(chunk)

    @property
    def etag(self) -> str:
        return self._hash.hexdigest()

    def replace(self, target: Path) -> str:
        """Puts the file at `target`, over what was there; returns its etag."""
        self._settle(target.parent)
        _free(target)
        os.replace(self._path, target)
        _sync_folder(target.parent)
        return self.etag

    def link(self, target: Path) -> bool:
        """Puts the file at `target` if nothing is there: of many racing writers one wins."""
        self._settle(target.parent)
        _free(target)
        try:
            os.link(self._path, target)
        except FileExistsError:
            if target.is_dir():
                raise
            return False
        _sync_folder(target.parent)
        return True

    def _settle(self, folder: Path) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        make_folders(folder)


@contextmanager
def landing(folder: Path) -> Iterator[Landing]:
    """A new file in `folder` under a temporary hidden name; removed at the end unless it was moved."""
    path, descriptor = _open_locked(folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield Landing(file, path)
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def failures(what: str, where: Path) -> Iterator[None]:
    """Turns the system's errors into ours: `what` failed at `where`, why, and what to do."""
    try:
        yield
    except OSError as error:
        raise counted(what, _translated(error, what, where)) from error


def counted(what: str, error: LrmError) -> LrmError:
    """The error, which is now in the metrics if the store is to blame. `what` begins with the operation: reading …"""
    if not isinstance(error, NotFound | Conflict):
        observe.count("lrm_store_failed_total", operation=what.split(maxsplit=1)[0])
    return error


def _free(target: Path) -> None:
    """Removes the empty folders that deleted objects have left where a file is to be; anything in them stays."""
    if target.is_dir():
        with suppress(OSError):  # not empty: the move says so
            for folder, _, _ in os.walk(target, topdown=False):
                os.rmdir(folder)


def sweep(folder: Path) -> None:
    """Removes what dead writers left in `folder` (see the top of this file); files of living ones stay."""
    for path in folder.glob(f".*{SUFFIX}"):
        with suppress(OSError):  # gone meanwhile, locked by its living writer, or another user's
            descriptor = os.open(path, os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(descriptor)


def make_folders(folder: Path) -> None:
    """mkdir -p whose folders survive a power cut."""
    if folder.is_dir():
        return
    make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _open_locked(folder: Path) -> tuple[Path, int]:
    while True:
        make_folders(folder)
        path = folder / f".{secrets.token_hex(8)}{SUFFIX}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return path, descriptor
        os.close(descriptor)  # a sweeper came between open and lock: take another name


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _translated(error: OSError, what: str, where: Path) -> LrmError:
    why = f"{what} failed: {error.strerror or error}"
    if error.errno in FULL:
        return Exhausted(f"{why}; make room for {where} or move that folder, then ask again")
    if error.errno in DENIED:
        return InvalidInput(f"{why}: {error.filename or where}; give this user access or choose another folder")
    if isinstance(error, FileExistsError | NotADirectoryError | IsADirectoryError):
        return Conflict(f"{why}: in {where} a file is where a folder is needed, or the reverse; choose another name")
    return Unavailable(f"{why}; check the disk or network folder of {where} and ask again")
