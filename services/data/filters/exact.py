"""Drops a prompt that came before, in any part: letter case, punctuation and spacing do not count. The first stays."""

from lrm_safety.nouns import Example
from services.data.filter import FilterContext, Keep, one_by_one
from services.data.filters.ngram import words

OPTIONS: dict[str, str] = {}
REASON = "same prompt"


def prepare(context: FilterContext) -> Keep:
    seen: set[str] = set()

    def reason(example: Example) -> str:
        key = " ".join(words(example.prompt)) or example.prompt.strip()
        if key in seen:
            return REASON
        seen.add(key)
        return ""

    return one_by_one(reason)
