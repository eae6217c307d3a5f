"""Drops examples that are too long: prompt, thinking and answer together, in characters or words."""

from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import Example
from services.data.filter import FilterContext, Keep, one_by_one

OPTIONS = {"characters": "most characters that stay", "words": "most words that stay"}


def prepare(context: FilterContext) -> Keep:
    if not context.options:
        raise InvalidInput("filter length: say how long is too long; expected `characters` or `words`")
    characters = context.count("characters", default=2**31)
    most_words = context.count("words", default=2**31)

    def reason(example: Example) -> str:
        parts = (example.prompt, example.thinking, example.answer)
        if sum(map(len, parts)) > characters:
            return "too many characters"
        return "too many words" if sum(len(part.split()) for part in parts) > most_words else ""

    return one_by_one(reason)
