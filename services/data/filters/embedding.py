"""Drops prompts that mean nearly what a reference, or a prompt before them, means: cosine of sentence embeddings.

STAR-1 (arXiv 2504.01903) takes all-MiniLM-L6-v2 and 0.7, among what was kept and against its tests. The first of two
stays. Memory: 1.5 KB a prompt that stays. Time grows with their square, beside some 60 embeddings a second and core.
"""

from collections.abc import Sequence

from lrm_safety.nouns import Example
from services.data import cosines, reference
from services.data.filter import FilterContext, Keep
from services.data.nearest import Nearest

THRESHOLD = 0.7
OPTIONS = cosines.options(THRESHOLD)
PARTS = ("cosines.py", "embedding.py", "nearest.py", "firsts.py", "reference.py")


def prepare(context: FilterContext) -> Keep:
    index = Nearest(reference.share(context, "threshold", THRESHOLD))
    find = index.sift if cosines.is_among(context) else index.find
    embedder = context.embedder()
    known = list(reference.texts(context))

    def keep(examples: Sequence[Example]) -> list[str]:
        if len(index) < len(known):  # not in `prepare`: it takes a while
            index.add(embedder.embed(known))
        places = find(embedder.embed([example.prompt for example in examples]))
        return cosines.reasons("embedding", places, len(known))

    return keep
