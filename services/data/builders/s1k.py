"""s1K (s1: simple test-time scaling, arXiv 2501.19393): 1,000 hard questions with a reasoning model's thoughts.

Fields: question, thinking_trajectories (a list, joined by line breaks), attempt (the answer); optional: id, source_type
and cot_type, kept as tags.
"""

from collections.abc import Mapping

from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import Example
from services.data.builder import Dropped, required, tags
from services.data.source import Row

OPTIONS: dict[str, str] = {}


def build(row: Row, options: Mapping[str, str]) -> Example:
    thoughts = row.fields.get("thinking_trajectories")
    if not isinstance(thoughts, list) or not all(isinstance(thought, str) for thought in thoughts):
        raise InvalidInput(f"{row.source}, row {row.number}: field 'thinking_trajectories' must be a list of texts")
    thinking = "\n".join(thoughts).strip()
    if not thinking:
        raise Dropped("empty thinking")
    return Example(
        id=row.optional("id"),
        prompt=required(row, "question"),
        thinking=thinking,
        answer=required(row, "attempt"),
        tags=tags(row, "source_type, cot_type"),
    )
