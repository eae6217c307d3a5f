"""Drops prompts whose TF-IDF cosine to a reference, or to a prompt before them, is at or above a threshold.

STAR-1 (arXiv 2504.01903) takes 0.6, against tests and all that was kept (`among: all`). The first of two stays. How the
weights are made and what it takes in memory: ../tfidf.py.
"""

from collections.abc import Sequence

from lrm_safety.nouns import Example
from services.data import cosines, reference
from services.data.filter import FilterContext, Keep
from services.data.tfidf import Tfidf

THRESHOLD = 0.6
OPTIONS = cosines.options(THRESHOLD)
PARTS = ("cosines.py", "reference.py", "tfidf.py", "firsts.py", "words.py")


def prepare(context: FilterContext) -> Keep:
    index = Tfidf(reference.share(context, "threshold", THRESHOLD))
    find = index.sift if cosines.is_among(context) else index.find
    index.add(list(reference.texts(context)))
    known = len(index)

    def keep(examples: Sequence[Example]) -> list[str]:
        return cosines.reasons("TF-IDF", find([example.prompt for example in examples]), known)

    return keep
