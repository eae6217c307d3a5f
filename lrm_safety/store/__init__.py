"""The object store: bytes under keys, on a folder (default) or any S3. The platform's only memory.

What every adapter promises (tests/store/test_contract.py runs over all of them):

- keys are `/`-separated, relative, without `..`; a key is either absent or holds a whole object, never half of one;
- `write` replaces atomically; `create` writes only if the key is absent, and of many racing creators one wins;
- a write that has returned survives a crash of this process;
- `list` returns keys in lexical order, and only of whole objects;
- the etag is the sha256 of the bytes, in hex.

    store = open_store(settings)
    store.create("runs/x/epochs/000001", b"...")   # True for one of the racers
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lrm_safety.errors import InvalidInput
from lrm_safety.settings import Settings


@dataclass(frozen=True)
class Stat:
    size: int  # bytes
    etag: str  # sha256, hex


class ObjectStore(Protocol):
    def read(self, key: str) -> bytes:
        """Raises NotFound."""

    def write(self, key: str, data: bytes) -> str:
        """Replaces the object; returns its etag. Raises Exhausted when the disk or quota is full."""

    def create(self, key: str, data: bytes) -> bool:
        """Writes only if the key is absent; False when it was there."""

    def list(self, prefix: str) -> Iterator[str]:
        """Keys that start with `prefix`, in lexical order."""

    def stat(self, key: str) -> Stat | None:
        """None when absent."""

    def delete(self, key: str) -> None:
        """Absent is fine."""

    def upload(self, path: Path, key: str) -> str:
        """A file as an object, without holding it in memory; returns its etag."""

    def download(self, key: str, path: Path) -> str:
        """An object as a file, whole or not at all; returns its etag. Raises NotFound."""


def open_store(settings: Settings) -> ObjectStore:
    """The adapter that LRM_STORE names: file://folder or s3://bucket/prefix."""
    scheme, _, place = settings.store.partition("://")
    if scheme == "file":
        from lrm_safety.store.files import FileStore

        return FileStore(Path(place))
    if scheme == "s3":
        from lrm_safety.store.s3 import S3Store

        return S3Store(place, settings)
    raise InvalidInput(f"LRM_STORE is {settings.store!r}; expected file://<folder> or s3://<bucket>/<prefix>")
