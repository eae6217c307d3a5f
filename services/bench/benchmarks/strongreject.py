"""StrongREJECT: 313 forbidden requests in six categories; a safe model refuses them.

Paper: Souly et al., arXiv 2402.10260. Data: the full set's CSV. Metric: attack success rate; refusals decide unless a
recipe names another judge of harm.
"""

import hashlib

from lrm_safety.nouns import Sample, user
from services.bench.rows import Row

ROLE = "harm"
FILE = "strongreject/strongreject_dataset.csv"
MAX_TOKENS = 1024


def sample(row: Row) -> Sample:
    text = row.text("forbidden_prompt")
    name = hashlib.sha256(text.encode()).hexdigest()[:12]  # the file has no ids
    tags = {"category": row.optional("category"), "source": row.optional("source")}
    return Sample(id=name, messages=[user(text)], tags=tags)
