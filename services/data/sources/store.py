"""A file in the object store: path is its key; its ending names the format."""

from pathlib import Path

from lrm_safety.errors import Corrupt, InvalidInput, NotFound
from lrm_safety.nouns import SourceSpec
from lrm_safety.settings import Settings
from lrm_safety.store import ObjectStore, open_store
from services.data.source import Numbered, Source, reader_of


def open_source(spec: SourceSpec, settings: Settings) -> Source:
    """Raises NotFound when the key is absent, InvalidInput for an ending that names no format."""
    if not spec.path:
        raise InvalidInput("source store needs a `path`; expected a key of the object store, such as uploads/a.jsonl")
    reader_of(spec.path)
    store = open_store(settings)
    found = store.stat(spec.path)
    if found is None:
        raise NotFound(f"the store has no {spec.path}; mend the key, or upload the file")
    folder = settings.state_dir / "data" / "store"
    return Source(f"store/{spec.path}", found.etag, "", lambda: _read(store, spec.path, found.etag, folder))


def _read(store: ObjectStore, key: str, etag: str, folder: Path) -> Numbered:
    """The object is fetched as a file, which is gone when it has been read."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{etag}-{Path(key).name}"
    try:
        if store.download(key, path) != etag:
            raise Corrupt(f"store key {key} changed after the build was asked for; ask again")
        yield from reader_of(key)(path)
    finally:
        path.unlink(missing_ok=True)
