"""Datasets and Checkpoints in the store: a folder under its own digest, its manifest written last.

    <kind>/<name>/<digest>/<files…>
    <kind>/<name>/<digest>/manifest.json     its existence means the folder is complete

A reference is `name` (the newest) or `name@digest` (a prefix of at least 8 characters will do).
"""

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from lrm_safety import jsonl
from lrm_safety.errors import Corrupt, InvalidInput, NotFound
from lrm_safety.nouns import Checkpoint, Dataset, FileEntry
from lrm_safety.store import ObjectStore

A = TypeVar("A", Checkpoint, Dataset)
MANIFEST = "manifest.json"
AT_ONCE = 4  # files fetched or verified; on two cores two from S3 are 1.7 times as fast as one, and more no slower
_LOCK = ".lrm-lock"


def publish(store: ObjectStore, kind: str, folder: Path, manifest: A) -> A:
    """Uploads a folder and announces it. `manifest` comes with its name set and goes back with files, digest, time.

    Publishing the same bytes again returns the manifest that is there.
    """
    done = type(manifest)()
    done.CopyFrom(manifest)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    del done.files[:]
    done.files.extend(_entry(folder, path) for path in paths)
    done.digest = _digest(list(done.files))
    root = f"{kind}/{done.name}/{done.digest}"
    if store.stat(f"{root}/{MANIFEST}"):
        return jsonl.loads(type(manifest), store.read(f"{root}/{MANIFEST}"))
    for path, entry in zip(paths, done.files, strict=True):
        if store.upload(path, f"{root}/{entry.path}") != entry.sha256:
            raise Corrupt(f"{path} changed while it was uploaded; publish it again")
    done.created_at = time.time()
    store.write(f"{root}/{MANIFEST}", jsonl.dumps(done).encode())
    return done


def find(store: ObjectStore, kind: str, message_type: type[A], reference: str) -> A:
    """The artefact a reference names. Raises NotFound with what there is."""
    name, _, digest = reference.partition("@")
    if digest and len(digest) < 8:
        raise InvalidInput(f"{reference!r}: give at least 8 characters of the digest")
    found = [artefact for artefact in _of_name(store, kind, message_type, name) if artefact.digest.startswith(digest)]
    if not found:
        names = sorted({key.split("/")[1] for key in store.list(f"{kind}/")})
        raise NotFound(f"no {kind} match {reference!r}; there are: {', '.join(names) or 'none yet'}")
    return max(found, key=lambda artefact: artefact.created_at)


def find_model(store: ObjectStore, reference: str) -> Checkpoint:
    """A checkpoint to be trained, served or measured. Raises NotFound, and InvalidInput for a sentence embedder."""
    found = find(store, "checkpoints", Checkpoint, reference)
    if found.embeds:
        raise InvalidInput(f"checkpoint {reference} gives embeddings and no answers; expected a language model")
    return found


def list_all(store: ObjectStore, kind: str, message_type: type[A]) -> list[A]:
    """Every complete artefact of a kind, newest first."""
    return sorted(_under(store, f"{kind}/", message_type), key=lambda artefact: -artefact.created_at)


def fetch(
    store: ObjectStore,
    kind: str,
    manifest: Checkpoint | Dataset,
    folder: Path,
    skip: str = "",
    on_file: Callable[[FileEntry], None] = lambda entry: None,
) -> Path:
    """The artefact's files as `folder/<digest>`, every sha256 verified; a folder fetched before is used again.

    `skip` leaves out files whose names end so: give those a `folder` of their own. `on_file` hears of each file that
    has come. Many processes may fetch into one folder at once. Raises Corrupt with the name of the file whose bytes
    are not what the manifest says.
    """
    target = folder / manifest.digest
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [entry for entry in manifest.files if not (skip and entry.path.endswith(skip))]
    with _part(folder, manifest.digest) as part:
        _download(store, f"{kind}/{manifest.name}/{manifest.digest}", wanted, part, on_file)
        try:
            part.rename(target)
        except OSError:  # another process fetched it meanwhile
            if not target.exists():
                raise
    (target / _LOCK).unlink(missing_ok=True)
    return target


def digest_of(manifest: Checkpoint | Dataset) -> str:
    """The digest that a manifest's files make, whatever it says itself."""
    return _digest(list(manifest.files))


def verify(manifest: Checkpoint | Dataset, folder: Path) -> str:
    """The first file of a fetched folder that is not what the manifest says; empty when all are."""

    def is_good(entry: FileEntry) -> bool:
        path = folder / entry.path
        return path.is_file() and path.stat().st_size == entry.size and _entry(folder, path).sha256 == entry.sha256

    with ThreadPoolExecutor(AT_ONCE) as pool:
        checked = zip(manifest.files, pool.map(is_good, manifest.files), strict=True)
        return next((entry.path for entry, good in checked if not good), "")


def _download(
    store: ObjectStore, root: str, entries: list[FileEntry], part: Path, on_file: Callable[[FileEntry], None]
) -> None:
    """Several files at once, the biggest first; the first failure ends it."""

    def one(entry: FileEntry) -> FileEntry:
        path = part / entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if store.download(f"{root}/{entry.path}", path) != entry.sha256:
            raise Corrupt(
                f"{root}/{entry.path} does not have the sha256 its manifest says; delete {root} and build or import it "
                "again"
            )
        return entry

    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        for done in as_completed(pool.submit(one, entry) for entry in sorted(entries, key=lambda entry: -entry.size)):
            on_file(done.result())
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _part(folder: Path, digest: str) -> Iterator[Path]:
    """A folder to fetch into, gone in the end unless it was moved.

    Its writer holds a lock on a file in it as long as it lives, so what dead writers left (also on other machines that
    share the disk) is known, and removed here.
    """
    while True:
        part = Path(tempfile.mkdtemp(prefix=f".{digest[:16]}-", dir=folder))
        lock = (part / _LOCK).open("wb")
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.fstat(lock.fileno()).st_nlink:
            break
        lock.close()  # somebody's sweep came between open and lock: take another name
    try:
        _sweep(folder)
        yield part
    finally:
        lock.close()
        shutil.rmtree(part, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Removes the parts of writers that died; those of the living are locked."""
    for path in folder.glob(f".*/{_LOCK}"):
        with suppress(OSError), path.open("rb+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
            shutil.rmtree(path.parent, ignore_errors=True)


def _of_name(store: ObjectStore, kind: str, message_type: type[A], name: str) -> list[A]:
    return _under(store, f"{kind}/{name}/", message_type) if name else []


def _under(store: ObjectStore, prefix: str, message_type: type[A]) -> list[A]:
    keys = [key for key in store.list(prefix) if key.count("/") == 3 and key.endswith(f"/{MANIFEST}")]
    return [jsonl.loads(message_type, store.read(key)) for key in keys]


def _entry(folder: Path, path: Path) -> FileEntry:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileEntry(path=path.relative_to(folder).as_posix(), sha256=digest, size=path.stat().st_size)


def _digest(files: list[FileEntry]) -> str:
    text = "".join(f"{entry.sha256}  {entry.path}\n" for entry in files)
    return hashlib.sha256(text.encode()).hexdigest()
