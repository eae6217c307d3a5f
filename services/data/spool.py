"""What a build works on lies on disk: memory holds where each piece begins (8 bytes) and its places in the draw and
in the mix (16 bytes each), and nothing of any text.
"""

import hashlib
import os
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from lrm_safety.nouns import Example

_KEY_BYTES = 16


class Spool:
    """Pieces of bytes, written once and read in any order. One thread writes."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b")
        self._ends = array("Q", [0])
        self._is_flushed = True

    def __len__(self) -> int:
        return len(self._ends) - 1

    def add(self, data: bytes) -> int:
        """Returns its index."""
        self._file.write(data)
        self._ends.append(self._ends[-1] + len(data))
        self._is_flushed = False
        return len(self) - 1

    def read(self, index: int) -> bytes:
        if not self._is_flushed:
            self._file.flush()
            self._is_flushed = True
        start, end = self._ends[index], self._ends[index + 1]
        return os.pread(self._file.fileno(), end - start, start)

    def close(self) -> None:
        self._file.close()


class Examples(Sequence[Example]):
    """Some examples of a spool, in an order: read from disk whenever they are looked at."""

    def __init__(self, spool: Spool, chosen: Sequence[int] | NDArray[np.intp]) -> None:
        self._spool, self._chosen = spool, chosen

    def __len__(self) -> int:
        return len(self._chosen)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> "Examples": ...
    def __getitem__(self, index: int | slice) -> "Example | Examples":
        if isinstance(index, slice):
            return Examples(self._spool, self._chosen[index])
        return Example.FromString(self._spool.read(int(self._chosen[index])))

    def __iter__(self) -> Iterator[Example]:
        return (self[index] for index in range(len(self)))


class SeededOrder:
    """Sorted by the hash of seed and id: chance without state. The first n of it are a draw without replacement, and
    a greater n only adds to a smaller one.
    """

    def __init__(self, seed: str) -> None:
        self._seed, self._keys = seed, bytearray()

    def add(self, id_: str) -> None:
        self._keys += hashlib.sha256(f"{self._seed}/{id_}".encode()).digest()[:_KEY_BYTES]

    def order(self, chosen: Sequence[int] | NDArray[np.intp] | None = None) -> NDArray[np.intp]:
        """Indices of what was added, or of those chosen of it, in the order of the draw."""
        keys = np.frombuffer(bytes(self._keys), dtype=">u8").reshape(-1, 2)
        which = np.arange(len(keys)) if chosen is None else np.asarray(chosen, dtype=np.intp)
        return which[np.lexsort((keys[which, 1], keys[which, 0]))]
