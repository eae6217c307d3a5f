"""Drops prompts that mean nearly what a reference, or a prompt before them, means: cosine of sentence embeddings.

STAR-1 (arXiv 2504.01903) takes all-MiniLM-L6-v2 and 0.7, among what was kept and against its tests. The first of two
stays. Memory: 1.5 KB a prompt that stays. Time grows with their square, beside some 60 embeddings a second and core.
"""

from collections.abc import Sequence

from lrm_safety.nouns import Example
from services.data import reference
from services.data.filter import FilterContext, Keep
from services.data.firsts import NEW
from services.data.nearest import Nearest

OPTIONS = {
    **reference.OPTIONS,
    "threshold": "cosine from which a prompt is dropped; default 0.7",
    "among": "compare with those that passed: all (default), none",
}
PARTS = ("embedding.py", "nearest.py", "firsts.py", "reference.py")
IN_REFERENCE, BEFORE = "embedding near reference", "embedding near prompt before"


def prepare(context: FilterContext) -> Keep:
    among = reference.among(context, reference.ALL, (reference.ALL,))
    index = Nearest(reference.share(context, "threshold", 0.7))
    embedder = context.embedder()
    known = list(reference.texts(context))
    find = index.sift if among == reference.ALL else index.find

    def keep(examples: Sequence[Example]) -> list[str]:
        if len(index) < len(known):  # not in `prepare`: it takes a while
            index.add(embedder.embed(known))
        places = find(embedder.embed([example.prompt for example in examples]))
        return ["" if place == NEW else IN_REFERENCE if place < len(known) else BEFORE for place in places]

    return keep
