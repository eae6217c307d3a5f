"""GSM8K: 1,319 word problems of grade-school arithmetic; the answer is a number.

Paper: Cobbe et al., arXiv 2110.14168. Data: test.jsonl, the gold answer after `####`. Metric: accuracy of the boxed
answer.
"""

import hashlib

from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import Sample, user
from services.bench.benchmarks.math500 import ASK
from services.bench.rows import Row

ROLE = "reasoning"
FILE = "math/gsm8k_test.jsonl.gz"
MAX_TOKENS = 2048
MARK = "####"


def sample(row: Row) -> Sample:
    problem = row.text("question")
    _, mark, gold = row.text("answer").rpartition(MARK)
    if not mark:
        raise InvalidInput(f"{row.path}, line {row.line}: the answer lacks {MARK} before the final number")
    name = hashlib.sha256(problem.encode()).hexdigest()[:12]  # the file has no ids
    return Sample(id=name, messages=[user(problem + ASK)], target=gold.strip().replace(",", ""))
