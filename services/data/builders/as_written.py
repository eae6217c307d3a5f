"""Rows that are examples already: prompt, answer, and thinking if there is any.

Fields: prompt, answer; optional: thinking, instruction, id, type (kept as a tag), and provenance as the source
`dataset` gives it: who wrote the response, how, and what was said of it goes on.
"""

from collections.abc import Mapping

from lrm_safety.nouns import Example, Provenance
from services.data.builder import required, tags
from services.data.source import Row

OPTIONS = {"tags": "fields to keep as tags, separated by commas; default: type"}


def build(row: Row, options: Mapping[str, str]) -> Example:
    return Example(
        id=row.optional("id"),
        prompt=required(row, "prompt"),
        thinking=row.optional("thinking").strip(),
        answer=required(row, "answer"),
        instruction=row.optional("instruction"),
        tags=tags(row, options.get("tags", "type")),
        provenance=_provenance(row),
    )


def _provenance(row: Row) -> Provenance | None:
    """None where the field is missing, or something else under the same name."""
    found = row.fields.get("provenance")
    try:
        return Provenance(**found) if isinstance(found, dict) else None
    except (ValueError, TypeError):
        return None
