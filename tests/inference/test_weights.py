"""What an engine's pod does first: weights in place and verified, or one clear line."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lrm_safety import artefacts
from lrm_safety.errors import Corrupt, InvalidInput
from lrm_safety.nouns import Checkpoint
from lrm_safety.settings import Settings, process_env
from lrm_safety.store import ObjectStore
from services.inference import weights
from tests.inference.conftest import Publish


def run(settings: Settings, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "services.inference.weights", *map(str, arguments)]
    return subprocess.run(
        command, env=process_env(settings.to_env()), capture_output=True, text=True, check=False, timeout=60
    )


def test_the_command(settings: Settings, publish: Publish, tmp_path: Path) -> None:
    made = publish("one")
    reference = f"one@{made.digest}"
    done = run(settings, reference, tmp_path / "models")
    assert done.returncode == 0, done.stderr
    got = tmp_path / "models" / made.digest
    assert sorted(path.name for path in got.iterdir()) == [file.path for file in made.files]
    assert f'"bytes": {int(weights.total(made))}, "of": {int(weights.total(made))}' in done.stderr

    missing = run(settings, "two@12345678", tmp_path / "models")
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)
    assert "there are: one" in missing.stderr
    assert run(settings, reference).returncode == 2


def test_a_disk_that_refuses_may_be_tried_again(settings: Settings, publish: Publish, tmp_path: Path) -> None:
    made = publish("one")
    (tmp_path / "models").write_text("a file where the folder should be")
    done = run(settings, f"one@{made.digest}", tmp_path / "models")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def test_spoilt_weights_are_fetched_anew(store: ObjectStore, publish: Publish, tmp_path: Path) -> None:
    made = publish("one")
    got = weights.put(store, f"one@{made.digest}", tmp_path / "models")
    file = got / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    assert weights.put(store, f"one@{made.digest}", tmp_path / "models") == got
    assert artefacts.verify(made, got) == ""
    assert [path.name for path in got.parent.iterdir()] == [made.digest]


def test_a_flipped_byte_in_the_store_is_refused(
    settings: Settings, store: ObjectStore, publish: Publish, tmp_path: Path
) -> None:
    made = publish("one")
    key = f"checkpoints/one/{made.digest}/model.safetensors"
    store.write(key, b"x" + store.read(key)[1:])
    with pytest.raises(Corrupt, match=r"model\.safetensors"):
        weights.put(store, f"one@{made.digest}", tmp_path / "models")
    assert not list((tmp_path / "models").iterdir())
    assert run(settings, f"one@{made.digest}", tmp_path / "models").returncode == 2


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "modeling_own.py", "lib.so", "model.pkl"])
def test_nothing_that_could_run_code(store: ObjectStore, tmp_path: Path, name: str) -> None:
    (tmp_path / "made").mkdir()
    for file in ("model.safetensors", "config.json", "README.md", name):
        (tmp_path / "made" / file).write_text("x")
    made = artefacts.publish(store, "checkpoints", tmp_path / "made", Checkpoint(name="bad"))
    with pytest.raises(InvalidInput, match=name):
        weights.put(store, f"bad@{made.digest}", tmp_path / "models")


def test_many_pods_share_a_folder(store: ObjectStore, publish: Publish, tmp_path: Path) -> None:
    """Also with what dead ones left: a part without its writer goes, a part of a living one stays."""
    made, models = publish("one"), tmp_path / "models"
    dead = models / f".{made.digest[:16]}-dead"
    dead.mkdir(parents=True)
    for name in (".lrm-lock", "model.safetensors"):
        (dead / name).write_text("half")
    results: list[Path] = []

    def pod() -> None:
        results.append(weights.put(store, f"one@{made.digest}", models))

    pods = [threading.Thread(target=pod) for _ in range(8)]
    for each in pods:
        each.start()
    for each in pods:
        each.join()
    assert results == [models / made.digest] * 8
    assert artefacts.verify(made, models / made.digest) == ""
    assert [path.name for path in models.iterdir()] == [made.digest]
