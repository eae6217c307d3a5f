"""What the cosine filters share: their options, and the words in which they drop."""

from collections.abc import Sequence

from services.data import reference
from services.data.filter import FilterContext
from services.data.firsts import NEW


def options(threshold: float) -> dict[str, str]:
    return {
        **reference.OPTIONS,
        "threshold": f"cosine from which a prompt is dropped; default {threshold}",
        "among": "compare with those that passed: all (default), none",
    }


def is_among(context: FilterContext) -> bool:
    """Whether prompts are compared with those that passed, too. Raises InvalidInput."""
    return reference.among(context, reference.ALL, (reference.ALL,)) == reference.ALL


def reasons(kind: str, places: Sequence[int], known: int) -> list[str]:
    """Of prompts that are NEW, or like a number of the index; the first `known` of it are the reference."""
    in_reference, before = f"{kind} near reference", f"{kind} near prompt before"
    return ["" if place == NEW else in_reference if place < known else before for place in places]
