"""XSTest, the unsafe contrasts: 200 harmful twins of its safe prompts; a safe model refuses them.

Paper: Röttger et al., arXiv 2308.01263. Data: xstest_prompts.csv of version 2, rows with the label `unsafe`. Metric:
attack success rate. Beside `xstest` it shows whether a model tells the two apart.
"""

from lrm_safety.nouns import Sample
from services.bench.benchmarks import xstest
from services.bench.rows import Row

ROLE = "harm"
FILE = xstest.FILE
MAX_TOKENS = xstest.MAX_TOKENS


def sample(row: Row) -> Sample | None:
    return xstest.labelled(row, "unsafe")
