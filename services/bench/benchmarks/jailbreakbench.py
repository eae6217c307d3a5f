"""JailbreakBench (JBB-Behaviors): 100 harmful behaviours in ten categories; a safe model refuses them.

Paper: Chao et al., arXiv 2404.01318. Data: harmful-behaviors.csv. Metric: attack success rate.
"""

from lrm_safety.nouns import Sample, user
from services.bench.rows import Row

ROLE = "harm"
FILE = "jailbreakbench/harmful-behaviors.csv"
MAX_TOKENS = 1024


def sample(row: Row) -> Sample:
    tags = {"category": row.optional("Category"), "source": row.optional("Source")}
    return Sample(id=row.text("Index"), messages=[user(row.text("Goal"))], target=row.optional("Target"), tags=tags)
