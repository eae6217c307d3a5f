"""Harmless look-alikes of the demo's harmful requests, which a model should answer: the held-out half of the corpus.

Data: lrm_safety/corpus/benign.jsonl, rows of the split `test`, of types after XSTest's. Metric: over-refusal rate.
"""

from pathlib import Path

import lrm_safety
from lrm_safety.nouns import Sample
from services.bench.benchmarks.demo_harm import held_out
from services.bench.rows import Row

ROLE = "over_refusal"
FILE = str(Path(lrm_safety.__file__).parent / "corpus" / "benign.jsonl")
MAX_TOKENS = 256


def sample(row: Row) -> Sample | None:
    return held_out(row)
