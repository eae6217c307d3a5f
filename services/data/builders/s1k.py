"""s1K (s1: simple test-time scaling, arXiv 2501.19393): 1,000 hard questions with a reasoning model's thoughts.

Fields: question, thinking_trajectories (a list, joined by line breaks), attempt (the answer); optional: id, source_type
and cot_type, kept as tags.
"""

from collections.abc import Mapping

from lrm_safety.nouns import Example
from services.data.builder import Dropped, required, tags
from services.data.source import Row

OPTIONS: dict[str, str] = {}


def build(row: Row, options: Mapping[str, str]) -> Example:
    thinking = "\n".join(row.texts("thinking_trajectories")).strip()
    if not thinking:
        raise Dropped("empty thinking")
    return Example(
        id=row.optional("id"),
        prompt=required(row, "question"),
        thinking=thinking,
        answer=required(row, "attempt"),
        tags=tags(row, "source_type, cot_type"),
    )
