"""Our own small corpus: harm.jsonl (to refuse), benign.jsonl (look-alikes to answer), math.jsonl (to work out).

Rows are {id, split, type, prompt, thinking, answer, target}; training reads split "train", benchmarks read "test".
The files come from `python -m lrm_safety.corpus.generate`; edit the tables (*.yaml, stories.py), then run it again.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from lrm_safety.errors import NotFound

KINDS = ("harm", "benign", "math")
LICENCE = "Apache-2.0"
FOLDER = Path(__file__).parent


def path(kind: str) -> Path:
    """The file of one kind. Raises NotFound with the kinds there are."""
    if kind not in KINDS:
        raise NotFound(f"the corpus has no {kind!r}; there are: {', '.join(KINDS)}")
    return FOLDER / f"{kind}.jsonl"


def rows(kind: str, split: str) -> Iterator[dict[str, str]]:
    """The rows of one kind that belong to `split` (train or test), in file order."""
    if split not in ("train", "test"):
        raise NotFound(f"the corpus has no split {split!r}; there are: train, test")
    for line in path(kind).read_text(encoding="utf-8").splitlines():
        row: dict[str, str] = json.loads(line)
        if row["split"] == split:
            yield row
