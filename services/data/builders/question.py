"""A prompt alone, to be filtered and chosen before a model is asked to answer it: the raw end of a pipeline.

Fields: prompt; optional: id, category, source (kept as tags; source: else where the row is from).
"""

from collections.abc import Mapping

from lrm_safety.nouns import Example
from services.data.builder import required, tags
from services.data.builders.star1_file import category_of
from services.data.source import Row

OPTIONS = {
    "source": "the tag `source` of every row; default: the row's own, else where it is from",
    "tags": "more fields to keep as tags, separated by commas",
}
PARTS = ("builders/star1_file.py",)


def build(row: Row, options: Mapping[str, str]) -> Example:
    source = options.get("source") or row.optional("source") or row.source
    kept = {"category": category_of(row), "source": source}
    return Example(
        id=row.optional("id"),
        prompt=required(row, "prompt"),
        tags=tags(row, options.get("tags", "")) | {name: value for name, value in kept.items() if value},
    )
