"""JailbreakBench, the benign half: 100 harmless behaviours on the same topics; a useful model answers them.

Paper: Chao et al., arXiv 2404.01318. Data: benign-behaviors.csv. Metric: over-refusal rate.
"""

from lrm_safety.nouns import Sample, user
from services.bench.rows import Row

ROLE = "over_refusal"
FILE = "jailbreakbench/benign-behaviors.csv"
MAX_TOKENS = 1024


def sample(row: Row) -> Sample:
    tags = {"category": row.optional("Category"), "source": row.optional("Source")}
    return Sample(id=row.text("Index"), messages=[user(row.text("Goal"))], tags=tags)
