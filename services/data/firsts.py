"""Of texts that are alike the first stays: the rule that the cosine filters share."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

NEW = -1  # like none before it
Ints = NDArray[np.int64]


def settle(like: Ints, pairs: Iterable[tuple[int, int]], stayed: int) -> None:
    """Fills in what each text of a block is like inside it, in place.

    `like`: of each text the number of an earlier one, or NEW; `pairs`: (text, one before it in the block that it is
    like); `stayed`: how many stayed before the block, so that the next that stays has this number.
    """
    inside: dict[int, int] = {}
    for text, other in sorted(pairs):
        if like[text] == NEW and like[other] == NEW:
            inside[text] = other
            like[text] = 0
    numbers = stayed - 1 + np.cumsum(like == NEW)
    for text, other in inside.items():
        like[text] = numbers[other]
