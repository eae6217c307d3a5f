"""What somebody wants to see of a published dataset: one example as a training sees it, and what a version changed."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from lrm_safety import artefacts
from lrm_safety.encoding import Encoder
from lrm_safety.errors import NotFound
from lrm_safety.nouns import Change, Checkpoint, Dataset, Example, InspectExampleRequest, Token, reference
from lrm_safety.store import ObjectStore
from services.data.reading import read_examples

_WEIGHTS = ".safetensors"


def find_example(store: ObjectStore, dataset: Dataset, wanted: str) -> Example:
    """Raises NotFound when no example has the id."""
    for example in read_examples(store, dataset):
        if example.id == wanted:
            return example
    name = reference(dataset.name, dataset.digest[:12])
    raise NotFound(
        f"{name} has no example {wanted!r}; ids are <part>/<row>, as in `lrm data export` and `lrm data diff`"
    )


def tokens(store: ObjectStore, example: Example, asked: InspectExampleRequest, folder: Path) -> list[Token]:
    """As the trainer encodes it. The tokenizer's checkpoint, without its weights, is kept in `folder`.

    Raises NotFound, and InvalidInput when a training would refuse the example.
    """
    checkpoint = artefacts.find(store, "checkpoints", Checkpoint, asked.tokenizer)
    files = artefacts.fetch(store, "checkpoints", checkpoint, folder, skip=_WEIGHTS)
    encoder = Encoder(files, asked.thinking or "keep", asked.template)
    encoded = encoder.encode(example)
    return [
        Token(id=token, text=text, is_trained=place >= encoded.start)
        for place, (token, text) in enumerate(zip(encoded.ids, encoder.texts(encoded), strict=True))
    ]


def differences(store: ObjectStore, before: Dataset, after: Dataset) -> Iterator[Change]:
    """Examples by id and content; provenance is no content. Holds the ids of `before`, and 16 bytes for each."""
    seen = {example.id: _digest(example) for example in read_examples(store, before)}
    for example in read_examples(store, after):
        old = seen.pop(example.id, None)
        if old is None:
            yield Change(id=example.id, change="added")
        elif old != _digest(example):
            yield Change(id=example.id, change="changed")
    yield from (Change(id=each, change="removed") for each in seen)


def _digest(example: Example) -> bytes:
    content = Example()
    content.CopyFrom(example)
    content.ClearField("provenance")
    return hashlib.sha256(content.SerializeToString(deterministic=True)).digest()[:16]
