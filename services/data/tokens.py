"""Token statistics of the responses of a dataset, with the tokenizer of a checkpoint."""

import hashlib
import itertools
from collections.abc import Callable, Iterable

import numpy as np
from tokenizers import Tokenizer

from lrm_safety.chat import target_text
from lrm_safety.errors import Corrupt, InvalidInput
from lrm_safety.nouns import Checkpoint, Example, TokenStats
from lrm_safety.store import ObjectStore

FILE = "tokenizer.json"
_BATCH = 256


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
    """Tokens of think block and answer as trained with thinking kept, without the template's end-of-turn token."""
    lengths: list[int] = []
    texts = (target_text(example, "keep") for example in examples)
    while batch := list(itertools.islice(texts, _BATCH)):
        lengths += [len(encoding) for encoding in tokenizer.encode_batch(batch, add_special_tokens=False)]
        counted(len(lengths))
    if not lengths:
        return TokenStats()
    return TokenStats(
        mean=float(np.mean(lengths)), p90=float(np.percentile(lengths, 90)), max=max(lengths), total=sum(lengths)
    )
