"""MATH-500: 500 competition problems in seven subjects and five levels; the answer is compared mathematically.

Papers: Hendrycks et al., arXiv 2103.03874; the 500 were chosen by Lightman et al., arXiv 2305.20050. Data: test.jsonl.
Metric: accuracy of the boxed answer.
"""

from lrm_safety.nouns import Sample, user
from services.bench.rows import Row

ROLE = "reasoning"
FILE = "math/math500_test.jsonl"
MAX_TOKENS = 4096
ASK = "\n\nPlease reason step by step, and put your final answer within \\boxed{}."


def sample(row: Row) -> Sample:
    tags = {"subject": row.optional("subject"), "level": row.optional("level")}
    return Sample(
        id=row.text("unique_id"), messages=[user(row.text("problem") + ASK)], target=row.text("answer"), tags=tags
    )
