"""LIMO (Less is more for reasoning, arXiv 2502.03387): few mathematical problems with long, careful solutions.

Fields: question, solution (the thought), answer; optional: id.
"""

from collections.abc import Mapping

from lrm_safety.nouns import Example
from services.data.builder import required
from services.data.source import Row

OPTIONS: dict[str, str] = {}


def build(row: Row, options: Mapping[str, str]) -> Example:
    return Example(
        id=row.optional("id"),
        prompt=required(row, "question"),
        thinking=required(row, "solution"),
        answer=required(row, "answer"),
    )
