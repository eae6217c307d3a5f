"""The subject of a signed decision is what lies in the store, whatever the store says of it."""

import io
import json
from pathlib import Path

import pytest

from lrm_safety import artefacts, statement
from lrm_safety.errors import Corrupt, NotFound
from lrm_safety.nouns import Checkpoint
from lrm_safety.store import ObjectStore
from lrm_safety.store.s3 import S3Store


def test_the_subject_is_the_stores(store: ObjectStore, tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    (folder / "sub").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "sub" / "config.json").write_text("{}")
    checkpoint = artefacts.publish(store, "checkpoints", folder, Checkpoint(name="tuned"))
    subject = f"tuned@{checkpoint.digest}"
    assert statement.check_subject(store, subject) == checkpoint
    with pytest.raises(NotFound):
        statement.check_subject(store, f"tuned@{'0' * 64}")
    root = f"checkpoints/tuned/{checkpoint.digest}"
    _replace(store, f"{root}/sub/config.json", b"{ }")
    with pytest.raises(Corrupt, match=r"sub/config.json has other bytes"):
        statement.check_subject(store, subject)
    store.delete(f"{root}/sub/config.json")
    with pytest.raises(Corrupt, match=r"sub/config.json is missing"):
        statement.check_subject(store, subject)
    forged = Checkpoint()
    forged.CopyFrom(checkpoint)
    forged.files[0].sha256 = store.write(f"{root}/model.safetensors", b"other weights")
    store.write(f"{root}/manifest.json", json.dumps({"name": "tuned", "digest": forged.digest}).encode())
    with pytest.raises(Corrupt, match="does not describe what was signed"):
        statement.check_subject(store, subject)


def _replace(store: ObjectStore, key: str, data: bytes) -> None:
    """Other bytes; on S3 with the metadata of the old ones, as who may write there may send it."""
    before = store.stat(key)
    if isinstance(store, S3Store) and before:
        store._send(store._name(key), io.BytesIO(data), len(data), before.etag)
    else:
        store.write(key, data)
