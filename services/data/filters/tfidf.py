"""Drops prompts whose TF-IDF cosine to a reference, or to a prompt before them, is at or above a threshold.

STAR-1 (arXiv 2504.01903) takes 0.6, against tests and all that was kept (`among: all`). The first of two stays. How the
weights are made and what it takes in memory: ../tfidf.py.
"""

from collections.abc import Sequence

from lrm_safety.nouns import Example
from services.data import reference
from services.data.filter import FilterContext, Keep
from services.data.firsts import NEW
from services.data.tfidf import Tfidf

OPTIONS = {
    **reference.OPTIONS,
    "threshold": "cosine from which a prompt is dropped; default 0.6",
    "among": "compare with those that passed: all (default), none",
}
PARTS = ("reference.py", "tfidf.py", "firsts.py", "words.py")
IN_REFERENCE, BEFORE = "TF-IDF near reference", "TF-IDF near prompt before"


def prepare(context: FilterContext) -> Keep:
    among = reference.among(context, reference.ALL, (reference.ALL,))
    index = Tfidf(reference.share(context, "threshold", 0.6))
    index.add(list(reference.texts(context)))
    known = len(index)
    find = index.sift if among == reference.ALL else index.find

    def keep(examples: Sequence[Example]) -> list[str]:
        places = find([example.prompt for example in examples])
        return ["" if place == NEW else IN_REFERENCE if place < known else BEFORE for place in places]

    return keep
