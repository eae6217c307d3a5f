"""What came before, as 64-bit hashes in sorted arrays: 8 bytes each, twice that while two arrays become one."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]


class Seen:
    """A set that takes a block of rows at a time. Rows are the hashes of their parts, such as runs of words."""

    def __init__(self) -> None:
        self._arrays: list[Hashes] = []  # each sorted, and more than twice as long as the next

    def __bool__(self) -> bool:
        return bool(self._arrays)

    def add(self, hashes: Iterable[int]) -> None:
        new = np.array(sorted(set(hashes)), np.uint64)
        while self._arrays and len(self._arrays[-1]) <= 2 * len(new):
            new = np.union1d(new, self._arrays.pop())
        if len(new):
            self._arrays.append(new)

    def shares(self, rows: Sequence[Sequence[int]]) -> list[bool]:
        """Of each row whether one of its hashes is in the set."""
        flat = np.array([each for row in rows for each in row], np.uint64)
        found = np.zeros(len(flat), bool)
        for array in self._arrays:
            places = np.minimum(np.searchsorted(array, flat), len(array) - 1)
            found |= array[places] == flat
        ends = np.cumsum([len(row) for row in rows], dtype=np.int64)
        before = np.concatenate(([0], np.cumsum(found)))
        starts = np.concatenate(([0], ends[:-1])) if len(ends) else ends
        return [bool(each) for each in before[ends] > before[starts]]

    def take(self, rows: Sequence[Sequence[int]]) -> list[bool]:
        """Of each row whether it shares nothing with those taken before it, here or earlier. It is then taken."""
        shared = self.shares(rows)
        fresh: set[int] = set()
        taken = []
        for row, is_shared in zip(rows, shared, strict=True):
            taken.append(not is_shared and fresh.isdisjoint(row))
            if taken[-1]:
                fresh.update(row)
        self.add(fresh)
        return taken
