"""How long the responses of a dataset are, in tokens of a checkpoint's tokenizer."""

import hashlib
import itertools
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from tokenizers import Tokenizer

from lrm_safety.chat import target_text
from lrm_safety.errors import Corrupt, InvalidInput
from lrm_safety.nouns import Checkpoint, Example, TokenStats
from lrm_safety.store import ObjectStore

FILE = "tokenizer.json"
_BATCH = 256
_MOST_BINS = 30


def read_tokenizer(store: ObjectStore, checkpoint: Checkpoint) -> Tokenizer:
    """The tokenizer alone, without the weights beside it. Raises InvalidInput, Corrupt."""
    entry = next((entry for entry in checkpoint.files if entry.path == FILE), None)
    if entry is None:
        raise InvalidInput(f"checkpoint {checkpoint.name} has no {FILE}; name another as `tokenizer`, or none")
    key = f"checkpoints/{checkpoint.name}/{checkpoint.digest}/{FILE}"
    data = store.read(key)
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise Corrupt(f"{key} does not have the sha256 its manifest says; import {checkpoint.name} again")
    tokenizer = Tokenizer.from_str(data.decode())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def response_tokens(
    examples: Iterable[Example], tokenizer: Tokenizer, counted: Callable[[int], None] = lambda done: None
) -> TokenStats:
    """Of think block and answer as trained with thinking kept, without the template's end-of-turn token."""
    lengths, left = Lengths(tokenizer), iter(examples)
    while batch := list(itertools.islice(left, _BATCH)):
        lengths.add(batch)
        counted(len(lengths))
    return lengths.stats()


class Lengths:
    """How many tokens responses have; 4 bytes for each."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer, self._lengths = tokenizer, array("i")

    def __len__(self) -> int:
        return len(self._lengths)

    def add(self, examples: Sequence[Example]) -> None:
        texts = [target_text(example, "keep") for example in examples]
        encodings = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        self._lengths.extend(len(encoding) for encoding in encodings)

    def stats(self) -> TokenStats:
        if not self._lengths:
            return TokenStats()
        lengths = np.asarray(self._lengths)
        bin_tokens = next(width for width in _widths() if lengths.max() < width * _MOST_BINS)
        return TokenStats(
            mean=float(lengths.mean()),
            p90=float(np.percentile(lengths, 90)),
            max=int(lengths.max()),
            total=float(lengths.sum(dtype=np.int64)),
            histogram=np.bincount(lengths // bin_tokens).tolist(),
            bin_tokens=bin_tokens,
        )


def _widths() -> Iterator[int]:
    """1, 2, 5, 10, 20, 50, ..."""
    for power in itertools.count():
        yield from (10**power, 2 * 10**power, 5 * 10**power)
