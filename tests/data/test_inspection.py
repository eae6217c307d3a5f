"""A dataset looked at over real gRPC: an example token by token, lengths in other tokens, what a version changed."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lrm_safety import artefacts, jsonl
from lrm_safety.clients import Clients, rpc, rpc_stream
from lrm_safety.encoding import Encoder
from lrm_safety.errors import InvalidInput, NotFound
from lrm_safety.nouns import (
    Checkpoint,
    Dataset,
    DiffDatasetsRequest,
    Example,
    GetDatasetRequest,
    InspectExampleRequest,
    InspectExampleResponse,
    Provenance,
    reference,
)
from lrm_safety.store import ObjectStore
from services.data import service
from tests.fakes import tiny_model

EXAMPLES = [
    Example(id="p/1", prompt="Über 1?", thinking="Hm.", answer="Ja.", provenance=Provenance(row=1)),
    Example(id="p/2", prompt="2?", answer="Nein."),
]


@pytest.fixture
def data(serve: Callable, clients: Clients, store: ObjectStore, tmp_path: Path) -> Clients:
    """A service with the tokenizer of a tiny model, one token a byte, and a dataset of two examples."""
    serve("data", service.register)
    (tmp_path / "tiny").mkdir()
    tiny_model.write_tokenizer(tmp_path / "tiny")
    (tmp_path / "tiny" / "model.safetensors").write_bytes(b"weights that nobody needs")
    artefacts.publish(store, "checkpoints", tmp_path / "tiny", Checkpoint(name="tiny"))
    published(store, tmp_path, EXAMPLES)
    return clients


def published(store: ObjectStore, tmp_path: Path, examples: list[Example]) -> str:
    folder = tmp_path / f"dataset-{len(list(tmp_path.iterdir()))}"
    folder.mkdir()
    (folder / "examples-00000.jsonl.zst").write_bytes(jsonl.pack(examples))
    (folder / "dropped.jsonl.zst").write_bytes(b"not examples")
    made = artefacts.publish(store, "datasets", folder, Dataset(name="mix", examples=len(examples)))
    return reference(made.name, made.digest)


def inspected(data: Clients, **more: str) -> InspectExampleResponse:
    return rpc(data.data.InspectExample, InspectExampleRequest(dataset="mix", id="p/1", **more))


@pytest.mark.parametrize("thinking", ["keep", "empty", "none"])
def test_tokens_are_those_of_a_training(data: Clients, tmp_path: Path, thinking: str) -> None:
    seen = inspected(data, tokenizer="tiny", thinking=thinking)
    assert seen.example == EXAMPLES[0]
    encoded = Encoder(tmp_path / "tiny", thinking).encode(EXAMPLES[0])
    assert [each.id for each in seen.tokens] == encoded.ids
    assert [each.is_trained for each in seen.tokens] == [place >= encoded.start for place in range(len(encoded.ids))]
    trained = "".join(each.text for each in seen.tokens if each.is_trained)
    targets = {"keep": "<think>\nHm.\n</think>\n\nJa.", "empty": "<think>\n\n</think>\n\nJa.", "none": "Ja."}
    assert trained == targets[thinking] + "<|im_end|>"
    read = [each.text for each in seen.tokens if not each.is_trained]
    assert read[0] == "<|im_start|>" and "Ã" in read, "half of an Ü is written as the vocabulary has it"


def test_an_example_without_tokens_and_what_is_not_there(data: Clients) -> None:
    assert not inspected(data).tokens
    with pytest.raises(NotFound, match=r"mix@\w{12} has no example 'p/9'"):
        rpc(data.data.InspectExample, InspectExampleRequest(dataset="mix", id="p/9"))
    with pytest.raises(NotFound, match="no checkpoints match 'big'"):
        inspected(data, tokenizer="big")
    with pytest.raises(InvalidInput, match="thinking is 'loud'"):
        inspected(data, tokenizer="tiny", thinking="loud")


def test_lengths_with_another_tokenizer(data: Clients) -> None:
    assert not rpc(data.data.GetDataset, GetDatasetRequest(dataset="mix")).HasField("response_tokens")
    counted = rpc(data.data.GetDataset, GetDatasetRequest(dataset="mix", tokenizer="tiny"))
    lengths = [len("<think>\nHm.\n</think>\n\nJa."), len("<think>\n\n</think>\n\nNein.")]
    assert (counted.response_tokens.mean, counted.response_tokens.max) == (sum(lengths) / 2, max(lengths))
    assert counted.spec.tokenizer.startswith("tiny@")


def test_what_a_version_changed(data: Clients, store: ObjectStore, tmp_path: Path) -> None:
    """By id and content; where a row came from is no content."""
    moved = Example(id="p/1", prompt="Über 1?", thinking="Hm.", answer="Ja.", provenance=Provenance(row=7))
    other = Example(id="p/2", prompt="2?", answer="Doch.")
    before = rpc(data.data.GetDataset, GetDatasetRequest(dataset="mix"))
    after = published(store, tmp_path, [Example(id="p/3"), other, moved])

    def changes(before: str, after: str) -> list[tuple[str, str]]:
        found = rpc_stream(data.data.DiffDatasets, DiffDatasetsRequest(before=before, after=after))
        return [(each.id, each.change) for each in found]

    first = reference("mix", before.digest)
    assert changes(first, after) == [("p/3", "added"), ("p/2", "changed")]
    assert changes(after, first) == [("p/2", "changed"), ("p/3", "removed")]
    assert changes(after, after) == []
