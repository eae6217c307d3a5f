"""Datasets and Checkpoints in the store: a folder under its own digest, its manifest written last.

    <kind>/<name>/<digest>/<files…>
    <kind>/<name>/<digest>/manifest.json     its existence means the folder is complete

A reference is `name` (the newest) or `name@digest` (a prefix of at least 8 characters will do).
"""

import hashlib
import shutil
import tempfile
import time
from pathlib import Path
from typing import TypeVar

from lrm_safety import jsonl
from lrm_safety.errors import Corrupt, InvalidInput, NotFound
from lrm_safety.nouns import Checkpoint, Dataset, FileEntry
from lrm_safety.store import ObjectStore

A = TypeVar("A", Checkpoint, Dataset)
MANIFEST = "manifest.json"


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


def list_all(store: ObjectStore, kind: str, message_type: type[A]) -> list[A]:
    """Every complete artefact of a kind, newest first."""
    return sorted(_under(store, f"{kind}/", message_type), key=lambda artefact: -artefact.created_at)


def fetch(store: ObjectStore, kind: str, manifest: Checkpoint | Dataset, folder: Path) -> Path:
    """The artefact's files as a local folder, every digest verified; a folder fetched before is used again.

    Raises Corrupt with the name of the file whose bytes are not what the manifest says.
    """
    target = folder / manifest.digest
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{manifest.digest[:16]}-", dir=folder))
    for entry in manifest.files:
        path = part / entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        key = f"{kind}/{manifest.name}/{manifest.digest}/{entry.path}"
        if store.download(key, path) != entry.sha256:
            shutil.rmtree(part)
            raise Corrupt(
                f"{key} does not have the sha256 its manifest says; delete {kind}/{manifest.name}/{manifest.digest} "
                "and build or import it again"
            )
    try:
        part.rename(target)
    except OSError:  # another process fetched it meanwhile
        shutil.rmtree(part)
        if not target.exists():
            raise
    return target


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
