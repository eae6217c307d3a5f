"""Finds the vectors whose cosine to one that came before is at or above a threshold: exact, by blocked matrix products.

Memory: 4 bytes a dimension and vector that stays.
"""

import numpy as np
from numpy.typing import NDArray

from services.data.firsts import NEW, Ints, settle

Floats = NDArray[np.float32]
_BLOCK = 8192


class Nearest:
    """Vectors of length 1 that stayed, and what is like them."""

    def __init__(self, threshold: float) -> None:
        self._threshold = np.float32(threshold)
        self._blocks: list[Floats] = []

    def __len__(self) -> int:
        return sum(map(len, self._blocks))

    def add(self, vectors: Floats) -> None:
        """Vectors that stay, whatever they are like. [n, d]"""
        if self._blocks and len(self._blocks[-1]) < _BLOCK:
            vectors = np.concatenate((self._blocks.pop(), vectors))
        self._blocks += [vectors[start : start + _BLOCK] for start in range(0, len(vectors), _BLOCK)]

    def closest(self, vectors: Floats) -> tuple[Ints, Floats]:
        """Of each vector the one that stayed with the highest cosine, and that; NEW and -1 where there is none."""
        places, cosines = np.full(len(vectors), NEW), np.full(len(vectors), -1, np.float32)
        for number, block in enumerate(self._blocks):
            products = vectors @ block.T
            best = products.argmax(axis=1)
            values = products[np.arange(len(vectors)), best]
            is_better = values > cosines
            places[is_better], cosines[is_better] = number * _BLOCK + best[is_better], values[is_better]
        return places, cosines

    def find(self, vectors: Floats) -> list[int]:
        """Of each vector NEW, or the number of the closest that stayed, from the threshold on."""
        places, cosines = self.closest(vectors)
        found: list[int] = np.where(cosines >= self._threshold, places, NEW).tolist()
        return found

    def sift(self, vectors: Floats) -> list[int]:
        """As find, also among the vectors; those that are NEW stay."""
        like: Ints = np.array(self.find(vectors), np.int64)
        rows, others = np.nonzero(np.tril(vectors @ vectors.T >= self._threshold, -1))
        settle(like, zip(rows.tolist(), others.tolist(), strict=True), len(self))
        self.add(vectors[like == NEW])
        found: list[int] = like.tolist()
        return found
