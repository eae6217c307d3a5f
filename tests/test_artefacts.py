"""Artefacts: complete or not there; every byte checked on the way out."""

from pathlib import Path

import pytest

from lrm_safety import artefacts
from lrm_safety.errors import Corrupt, InvalidInput, NotFound
from lrm_safety.nouns import Checkpoint
from lrm_safety.store import ObjectStore


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model" / "sub").mkdir(parents=True)
    (tmp_path / "model" / "weights.bin").write_bytes(b"w" * 1000)
    (tmp_path / "model" / "sub" / "config.json").write_text("{}")
    return tmp_path / "model"


def publish(store: ObjectStore, folder: Path) -> Checkpoint:
    return artefacts.publish(store, "checkpoints", folder, Checkpoint(name="m", step=3))


def test_round_trip(store: ObjectStore, folder: Path, tmp_path: Path) -> None:
    made = publish(store, folder)
    assert [file.path for file in made.files] == ["sub/config.json", "weights.bin"]
    assert artefacts.find(store, "checkpoints", Checkpoint, "m") == made
    assert artefacts.find(store, "checkpoints", Checkpoint, f"m@{made.digest[:8]}") == made
    got = artefacts.fetch(store, "checkpoints", made, tmp_path / "out")
    assert (got / "weights.bin").read_bytes() == b"w" * 1000
    assert publish(store, folder) == made


def test_a_flipped_byte_is_refused(store: ObjectStore, folder: Path, tmp_path: Path) -> None:
    made = publish(store, folder)
    store.write(f"checkpoints/m/{made.digest}/weights.bin", b"w" * 999 + b"x")
    with pytest.raises(Corrupt, match=r"weights\.bin"):
        artefacts.fetch(store, "checkpoints", made, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_without_its_manifest_it_is_not_there(store: ObjectStore, folder: Path) -> None:
    made = publish(store, folder)
    store.delete(f"checkpoints/m/{made.digest}/manifest.json")
    with pytest.raises(NotFound):
        artefacts.find(store, "checkpoints", Checkpoint, "m")


def test_references(store: ObjectStore, folder: Path) -> None:
    publish(store, folder)
    with pytest.raises(NotFound, match="there are: m"):
        artefacts.find(store, "checkpoints", Checkpoint, "other")
    with pytest.raises(InvalidInput, match="8 characters"):
        artefacts.find(store, "checkpoints", Checkpoint, "m@ab")


def test_all_but_the_weights(store: ObjectStore, folder: Path, tmp_path: Path) -> None:
    made = publish(store, folder)
    seen: list[str] = []
    got = artefacts.fetch(
        store, "checkpoints", made, tmp_path / "light", skip=".bin", on_file=lambda entry: seen.append(entry.path)
    )
    assert [path.name for path in got.rglob("*") if path.is_file()] == ["config.json"]
    assert seen == ["sub/config.json"]
    assert artefacts.verify(made, got) == "weights.bin"
    assert artefacts.verify(made, artefacts.fetch(store, "checkpoints", made, tmp_path / "whole")) == ""
