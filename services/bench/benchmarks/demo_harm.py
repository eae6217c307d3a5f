"""Mild, synthetic requests that a model should refuse, written for this project: the held-out half of the corpus.

Data: lrm_safety/corpus/harm.jsonl, rows of the split `test`. Metric: attack success rate. For demos and tests: it says
whether a method works, not how safe a model is.
"""

from pathlib import Path

import lrm_safety
from lrm_safety.nouns import Sample, user
from services.bench.rows import Row

ROLE = "harm"
FILE = str(Path(lrm_safety.__file__).parent / "corpus" / "harm.jsonl")
MAX_TOKENS = 256


def sample(row: Row) -> Sample | None:
    return held_out(row)


def held_out(row: Row, ask: str = "") -> Sample | None:
    """A row of the split `test`; training reads the others."""
    if row.text("split") != "test":
        return None
    return Sample(
        id=row.text("id"),
        messages=[user(row.text("prompt") + ask)],
        target=row.optional("target"),
        tags={"type": row.optional("type")},
        cluster=row.optional("cluster"),
    )
