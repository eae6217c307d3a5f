"""STAR-1's published files (arXiv 2504.01903): thinking and answer in one response, taken apart at its think block.

Fields: question, response; optional: id, category (a list) and source, kept as tags. Also reads STAR-benign and
STAR-41K, which have the same columns. A response must be one closed think block and a non-empty answer.
"""

from collections.abc import Mapping

from lrm_safety import thinking
from lrm_safety.nouns import Example
from services.data.builder import Dropped, required
from services.data.source import Row

OPTIONS: dict[str, str] = {}


def build(row: Row, options: Mapping[str, str]) -> Example:
    response = required(row, "response")
    parts = thinking.split(response, style="tags")
    if parts.state != "closed":
        raise Dropped(f"thinking {parts.state}")
    opens, closes, *_ = thinking.THINK
    if not response.startswith(opens):
        raise Dropped("text before the thinking")
    if any(tag in text for tag in (opens, closes) for text in (parts.thinking, parts.answer)):
        raise Dropped("stray think tags")
    if not parts.answer:
        raise Dropped("empty answer")
    return Example(
        id=row.optional("id"),
        prompt=required(row, "question"),
        thinking=parts.thinking,
        answer=parts.answer,
        tags=_tags(row),
    )


def category_of(row: Row) -> str:
    """One category or several, joined as tags have them."""
    is_list = isinstance(row.fields.get("category"), list)
    return "; ".join(row.texts("category")) if is_list else row.optional("category")


def _tags(row: Row) -> dict[str, str]:
    tags = {"category": category_of(row), "source": row.optional("source")}
    return {name: value for name, value in tags.items() if value}
