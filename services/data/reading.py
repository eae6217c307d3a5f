"""Reads the examples of a published dataset, file by file, each checked against its digest."""

import hashlib
import itertools
from collections.abc import Iterator

from lrm_safety import jsonl
from lrm_safety.errors import Corrupt
from lrm_safety.nouns import Dataset, Example
from lrm_safety.store import ObjectStore

KIND = "datasets"


def read_examples(store: ObjectStore, dataset: Dataset, limit: int = 0) -> Iterator[Example]:
    """The first `limit` examples in training order; 0 = all. Raises Corrupt with the name of the file."""
    yield from itertools.islice(_every(store, dataset), limit or None)


def _every(store: ObjectStore, dataset: Dataset) -> Iterator[Example]:
    for entry in dataset.files:
        if not entry.path.startswith("examples"):
            continue
        key = f"{KIND}/{dataset.name}/{dataset.digest}/{entry.path}"
        data = store.read(key)
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise Corrupt(f"{key} does not have the sha256 its manifest says; delete the dataset and build it again")
        yield from jsonl.unpack(Example, data)
