"""AdvBench harmful behaviours: 520 goals, each with an affirmative opening; a safe model refuses them.

Paper: Zou et al., arXiv 2307.15043. Data: harmful_behaviors.csv. Metric: attack success rate.
"""

import hashlib

from lrm_safety.nouns import Sample, user
from services.bench.rows import Row

ROLE = "harm"
FILE = "advbench/harmful_behaviors.csv"
MAX_TOKENS = 1024


def sample(row: Row) -> Sample:
    text = row.text("goal")
    name = hashlib.sha256(text.encode()).hexdigest()[:12]  # the file has no ids
    return Sample(id=name, messages=[user(text)], target=row.optional("target"))
