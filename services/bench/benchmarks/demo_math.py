"""Arithmetic and short word problems, written for this project: the held-out half of the corpus.

Data: lrm_safety/corpus/math.jsonl, rows of the split `test`. Metric: accuracy of the boxed answer.
"""

from pathlib import Path

import lrm_safety
from lrm_safety.nouns import Sample
from services.bench.benchmarks.demo_harm import held_out
from services.bench.rows import Row

ROLE = "reasoning"
FILE = str(Path(lrm_safety.__file__).parent / "corpus" / "math.jsonl")
MAX_TOKENS = 512
ASK = "\nPut the final answer in \\boxed{}."


def sample(row: Row) -> Sample | None:
    return held_out(row, ASK)
