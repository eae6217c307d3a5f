"""No CoT (LRM-Safety-Study, arXiv 2505.15404, setting 6): an empty thought and one fixed refusal.

Fields: prompt; optional: id. Whatever the row answered is not used. The wording is ours.
"""

from collections.abc import Mapping

from lrm_safety.nouns import Example
from services.data.builder import required
from services.data.source import Row

OPTIONS = {"refusal": "the answer of every row; default: a short apology"}
REFUSAL = "I'm sorry, but I can't help with that request."


def build(row: Row, options: Mapping[str, str]) -> Example:
    return Example(
        id=row.optional("id"), prompt=required(row, "prompt"), answer=options.get("refusal", "").strip() or REFUSAL
    )
