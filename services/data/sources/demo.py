"""Our own small corpus, split train: path is harm (to refuse), benign (look-alikes to answer) or math (to work out)."""

from pathlib import Path

from lrm_safety import corpus
from lrm_safety.nouns import SourceSpec
from lrm_safety.settings import Settings
from services.data.files import sha256
from services.data.source import Numbered, Source
from services.data.sources import jsonl


def open_source(spec: SourceSpec, settings: Settings) -> Source:
    path = corpus.path(spec.path)
    return Source(f"demo/{spec.path}", sha256(path), corpus.LICENCE, lambda: read(path))


def read(path: Path) -> Numbered:
    """Only what may be trained on: benchmarks ask the other half."""
    for number, row in jsonl.read(path):
        if isinstance(row, dict) and row["split"] == "train":
            yield number, row
