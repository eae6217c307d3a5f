"""Drops a prompt that came before, in any part: letter case, punctuation and spacing do not count. The first stays.

Memory: 8 bytes a prompt that stays, and as many again at times.
"""

from collections.abc import Sequence

from lrm_safety.nouns import Example
from services.data.filter import FilterContext, Keep
from services.data.seen import Seen
from services.data.words import hashed, words

OPTIONS: dict[str, str] = {}
PARTS = ("seen.py", "words.py")
REASON = "same prompt"


def prepare(context: FilterContext) -> Keep:
    seen = Seen()

    def keep(examples: Sequence[Example]) -> list[str]:
        rows = [[hashed(" ".join(words(example.prompt)) or example.prompt.strip())] for example in examples]
        return ["" if is_new else REASON for is_new in seen.take(rows)]

    return keep
