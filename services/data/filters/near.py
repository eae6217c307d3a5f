"""Drops a prompt that is nearly one before it, in any part: MinHash (Broder 1997) of its letters. The first stays.

Two prompts are near when the signatures of their runs of 5 letters agree in `threshold` of 128 places, which estimates
the share of runs that they have in common (Jaccard) with a standard error of 4 points at 0.8. Candidates come from 32
bands of 4 places: of pairs at 0.6 they miss 1 in 100, at 0.8 none in a million. Letter case and punctuation do
not count.
Memory: about 3.5 KB a prompt that stays.
"""

from collections.abc import Sequence
from itertools import count

from rensa import RMinHashDeduplicator

from lrm_safety.nouns import Example
from services.data import reference
from services.data.filter import FilterContext, Keep
from services.data.words import words

OPTIONS = {"threshold": "share of places that agree, from which a prompt is dropped; default 0.8"}
PARTS = ("words.py",)
REASON = "near a prompt before"
PLACES, BANDS, LETTERS, SEED = 128, 32, 5, 42


def prepare(context: FilterContext) -> Keep:
    threshold = reference.share(context, "threshold", 0.8)
    before = RMinHashDeduplicator(threshold, PLACES, use_lsh=True, num_bands=BANDS, seed=SEED)
    numbers = count()

    def keep(examples: Sequence[Example]) -> list[str]:
        pairs = [(str(next(numbers)), letter_runs(example.prompt)) for example in examples]
        return ["" if is_new else REASON for is_new in before.add_pairs(pairs)]

    return keep


def letter_runs(text: str) -> list[str]:
    """Each run of letters once, spaces between words included; of a shorter text the text itself."""
    line = " ".join(words(text)) or text.strip()
    return sorted({line[start : start + LETTERS] for start in range(max(1, len(line) - LETTERS + 1))})
