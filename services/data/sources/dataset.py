"""The examples of another dataset of this store: path is its name, or name@digest.

Fields: id, prompt, thinking, answer, instruction, tags and provenance (objects), and each tag under its own name.
"""

from typing import Any

from lrm_safety import artefacts, jsonl
from lrm_safety.nouns import Dataset, Example, SourceSpec, reference
from lrm_safety.settings import Settings
from lrm_safety.store import ObjectStore, open_store
from services.data.reading import KIND, read_examples
from services.data.source import Numbered, Source


def open_source(spec: SourceSpec, settings: Settings) -> Source:
    """Raises NotFound with the datasets there are."""
    store = open_store(settings)
    dataset = artefacts.find(store, KIND, Dataset, spec.path)
    licences = dict.fromkeys(part.licence for part in dataset.parts)
    licence = "" if "" in licences else "; ".join(licences)
    name = reference(dataset.name, dataset.digest)
    return Source(name, dataset.digest, licence, lambda: _read(store, dataset))


def _read(store: ObjectStore, dataset: Dataset) -> Numbered:
    for number, example in enumerate(read_examples(store, dataset), start=1):
        yield number, _row(example)


def _row(example: Example) -> dict[str, Any]:
    tags = dict(example.tags)
    texts = {name: getattr(example, name) for name in ("id", "prompt", "thinking", "answer", "instruction")}
    return {**tags, **texts, "tags": tags, "provenance": jsonl.to_dict(example.provenance)}
