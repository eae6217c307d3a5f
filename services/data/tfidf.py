"""Finds the texts whose TF-IDF cosine to one that came before is at or above a threshold: exact, in sparse blocks.

A word's weight is tf · (ln((1+n) / (1+df)) + 1), as in scikit-learn; n and df are those of all texts up to the last
power of two, so that they do not depend on where blocks end. Pairs are found as in All-Pairs (Bayardo et al. 2007): the
commonest words of a text, up to a norm of 0.7 thresholds, cannot carry a pair alone, so only its other words are looked
up; what they share plus that norm bounds the cosine, and the few pairs left are computed in full.

Memory: the words of the texts that stay, 24 bytes a word and text, and 150 bytes a word of the vocabulary.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from services.data.firsts import NEW, Ints, settle
from services.data.words import words

_SLACK = 0.7
Matrix = Any  # scipy.sparse.csr_array


class Growing:
    """An array that is appended to."""

    def __init__(self, kind: type[np.generic]) -> None:
        self._room, self.size = np.empty(1024, kind), 0

    def extend(self, values: NDArray[Any]) -> None:
        end = self.size + len(values)
        if end > len(self._room):
            room = np.empty(max(end, len(self._room) * 3 // 2), self._room.dtype)
            room[: self.size] = self.values
            self._room = room
        self._room[self.size : end], self.size = values, end

    @property
    def values(self) -> NDArray[Any]:
        return self._room[: self.size]


@dataclass(frozen=True)
class Segment:
    """Some of the texts that stayed, one after the other."""

    first: int
    weights: Matrix  # [texts, words]
    by_word: Matrix  # [words, texts]

    @property
    def size(self) -> int:
        return int(self.weights.shape[0])


class Tfidf:
    """The texts that stayed, and what is like them."""

    def __init__(self, threshold: float) -> None:
        self._threshold = np.float32(threshold)
        self._vocabulary: dict[str, int] = {}
        self._texts_with = Growing(np.int32)  # of each word
        self._idf = Growing(np.float32)  # of each word, as of the last power of two
        self._count = self._count_then = 0
        self._words, self._times, self._starts = Growing(np.int32), Growing(np.float32), Growing(np.int64)
        self._starts.extend(np.zeros(1))
        self._segments: list[Segment] = []

    def __len__(self) -> int:
        return self._starts.size - 1

    def add(self, texts: Sequence[str]) -> None:
        """Texts that stay, whatever they are like."""
        for piece in self._pieces(texts):
            self._take(piece, np.full(piece.shape[0], NEW))

    def sift(self, texts: Sequence[str]) -> list[int]:
        """Of each text NEW, and it stays, or the number of one before it that it is like."""
        found: list[int] = []
        for counts in self._pieces(texts):
            weights = self._weighed(counts)
            like = self._like_before(weights)
            self._look_inside(weights, like)
            self._take(counts, like)
            found += like.tolist()
        return found

    def find(self, texts: Sequence[str]) -> list[int]:
        """As sift, but none of the texts stays, and frequencies are as they were."""
        found: list[int] = self._like_before(self._weighed(self._counted(texts))).tolist()
        return found

    def _pieces(self, texts: Sequence[str]) -> Any:
        """Counts of words [texts, words], cut where the document frequencies are taken anew."""
        start = 0
        while start < len(texts):
            room = (1 << self._count.bit_length()) - self._count
            yield self._counted(texts[start : start + room])
            start += room
            if self._count.bit_count() == 1:
                self._take_frequencies()

    def _counted(self, texts: Sequence[str]) -> Matrix:
        ids: list[int] = []
        times: list[int] = []
        starts = [0]
        for text in texts:
            counted = Counter(words(text))
            ids += [self._vocabulary.setdefault(word, len(self._vocabulary)) for word in counted]
            times += counted.values()
            starts.append(len(ids))
        size = len(self._vocabulary)
        self._texts_with.extend(np.zeros(size - self._texts_with.size))
        self._idf.extend(np.full(size - self._idf.size, _idf(self._count_then, np.zeros(1))[0]))
        return _matrix(np.array(times, np.float32), np.array(ids, np.int32), np.array(starts), size)

    def _take(self, counts: Matrix, like: Ints) -> None:
        self._count += counts.shape[0]
        self._texts_with.values[:] += np.bincount(counts.indices, minlength=self._texts_with.size).astype(np.int32)
        stays, lengths = like == NEW, np.diff(counts.indptr)
        its_words = np.repeat(stays, lengths)
        first, size = len(self), int(stays.sum())
        self._words.extend(counts.indices[its_words])
        self._times.extend(counts.data[its_words])
        self._starts.extend(self._starts.values[-1] + np.cumsum(lengths[stays]))
        while self._segments and self._segments[-1].size <= 2 * size:
            first, size = self._segments[-1].first, size + self._segments.pop().size
        if size:
            self._segments.append(self._segment(first, size))

    def _take_frequencies(self) -> None:
        self._count_then = self._count
        self._idf.values[:] = _idf(self._count, self._texts_with.values)
        size = len(self)
        self._segments = [self._segment(0, size)] if size else []

    def _segment(self, first: int, size: int) -> Segment:
        starts = self._starts.values[first : first + size + 1]
        here = slice(starts[0], starts[-1])
        counts = _matrix(self._times.values[here], self._words.values[here], starts - starts[0], self._idf.size)
        weights = self._weighed(counts)
        return Segment(first, weights, weights.T.tocsr())

    def _weighed(self, counts: Matrix) -> Matrix:
        """The same with weights in the place of counts, each row of length 1."""
        data = counts.data * self._idf.values[counts.indices]
        lengths = np.diff(counts.indptr)
        rows = np.repeat(np.arange(len(lengths)), lengths)
        norms = np.sqrt(np.bincount(rows, data.astype(np.float64) ** 2, len(lengths)))
        return _matrix((data / norms[rows]).astype(np.float32), counts.indices, counts.indptr, counts.shape[1])

    def _like_before(self, weights: Matrix) -> Ints:
        """Of each row the lowest number of a text that stayed and that it is like, or NEW."""
        like = np.full(weights.shape[0], NEW)
        rare, rest = self._parted(weights)
        for segment in self._segments:
            shared = rare[:, : segment.by_word.shape[0]] @ segment.by_word
            rows = np.repeat(np.arange(len(rest)), np.diff(shared.indptr))
            may_be = shared.data + rest[rows] >= self._threshold
            rows, others = rows[may_be], shared.indices[may_be]
            cosines = _row_products(weights[rows], segment.weights[others])
            is_like = cosines >= self._threshold
            rows, others = rows[is_like][::-1], others[is_like][::-1]
            rows, others = rows[like[rows] == NEW], others[like[rows] == NEW]
            like[rows] = segment.first + others
        return like

    def _parted(self, weights: Matrix) -> tuple[Matrix, NDArray[np.float32]]:
        """Each row's rarer words, and the norm of its others."""
        lengths = np.diff(weights.indptr)
        rows = np.repeat(np.arange(len(lengths)), lengths)
        order = np.lexsort((-self._idf.values[weights.indices], rows))
        squares = weights.data[order].astype(np.float64) ** 2
        sums = np.concatenate(([0.0], np.cumsum(squares)))
        from_here_on = sums[weights.indptr[1:]][rows] - sums[:-1]
        is_rare = from_here_on > (_SLACK * self._threshold) ** 2
        rest = np.sqrt(np.bincount(rows[~is_rare], squares[~is_rare], len(lengths)))
        chosen = order[is_rare]
        starts = np.concatenate(([0], np.cumsum(np.bincount(rows[is_rare], minlength=len(lengths)))))
        rare = _matrix(weights.data[chosen], weights.indices[chosen], starts, weights.shape[1])
        return rare, rest.astype(np.float32) + np.float32(1e-6)

    def _look_inside(self, weights: Matrix, like: Ints) -> None:
        """Compares the rows with those before them in the same block."""
        products = (weights @ weights.T).tocoo()
        is_pair = (products.data >= self._threshold) & (products.col < products.row)
        pairs = zip(products.row[is_pair].tolist(), products.col[is_pair].tolist(), strict=True)
        settle(like, pairs, len(self))


def _idf(count: int, texts_with: NDArray[Any]) -> NDArray[Any]:
    return np.log((1 + count) / (1 + texts_with)) + 1


def _row_products(left: Matrix, right: Matrix) -> NDArray[Any]:
    """Of row i and row i the scalar product."""
    width = max(left.shape[1], right.shape[1])
    left.resize(left.shape[0], width)
    right.resize(right.shape[0], width)
    return np.asarray(left.multiply(right).sum(axis=1)).ravel()


def _matrix(data: NDArray[Any], columns: NDArray[Any], starts: NDArray[Any], width: int) -> Matrix:
    return sparse.csr_array((data, columns, starts), shape=(len(starts) - 1, width))
