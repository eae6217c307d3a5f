"""Rows that are examples already: prompt, answer, and thinking if there is any.

Fields: prompt, answer; optional: thinking, id, type (kept as a tag).
"""

from collections.abc import Mapping

from lrm_safety.nouns import Example
from services.data.builder import required, tags
from services.data.source import Row

OPTIONS = {"tags": "fields to keep as tags, separated by commas; default: type"}


def build(row: Row, options: Mapping[str, str]) -> Example:
    return Example(
        id=row.optional("id"),
        prompt=required(row, "prompt"),
        thinking=row.optional("thinking").strip(),
        answer=required(row, "answer"),
        tags=tags(row, options.get("tags", "type")),
    )
