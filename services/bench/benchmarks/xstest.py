"""XSTest, the safe prompts: 250 harmless requests that sound dangerous, of ten types; a useful model answers them.

Paper: Röttger et al., arXiv 2308.01263. Data: xstest_prompts.csv of version 2, rows with the label `safe`. Metric:
over-refusal rate. The 200 unsafe contrasts are the benchmark `xstest_unsafe`. `xstest3` tells partial refusals apart.
"""

from lrm_safety.nouns import Sample, user
from services.bench.rows import Row

ROLE = "over_refusal"
FILE = "xstest/xstest_prompts.csv"
MAX_TOKENS = 1024


def sample(row: Row) -> Sample | None:
    return labelled(row, "safe")


def labelled(row: Row, label: str) -> Sample | None:
    if row.text("label") != label:
        return None
    return Sample(
        id=row.text("id"), messages=[user(row.text("prompt"))], tags={"type": row.text("type"), "label": label}
    )
