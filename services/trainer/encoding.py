"""The examples that a training reads: encoded once for a dataset, a tokenizer and a template, then kept on the disk."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np

from lrm_safety.chat import ChatTemplate
from lrm_safety.encoding import Encoded, Encoder, pad_token, read_tokenizer
from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import Example, TrainingSpec
from services.trainer import legacy

__all__ = [
    "Encoded",
    "EncodedRows",
    "EncodedSet",
    "Encoder",
    "encode_all",
    "encode_cached",
    "pad_token",
    "read_tokenizer",
]
FORM = 1  # of the files; counted up when what is in them changes


class EncodedRows(Sequence[Encoded]):
    """Encoded examples in flat arrays: four bytes a token, and read from the disk as they are needed."""

    def __init__(self, ids: np.ndarray, table: np.ndarray, texts: list[tuple[str, str, dict[str, list[int]]]]) -> None:
        self._ids, self._table, self._texts = ids, table, texts  # table [examples, 3]: first id, end of ids, start

    @classmethod
    def of(cls, examples: Iterable[Encoded]) -> "EncodedRows":
        pieces: list[np.ndarray] = []
        table, texts, at = [], [], 0
        for example in examples:
            pieces.append(np.asarray(example.ids, dtype=np.int32))
            table.append((at, at + len(example.ids), example.start))
            spans = {name: list(span) for name, span in example.spans.items()}
            texts.append((example.id, example.label, spans))
            at += len(example.ids)
        ids = np.concatenate(pieces) if pieces else np.empty(0, np.int32)
        return cls(ids, np.asarray(table, dtype=np.int64).reshape(-1, 3), texts)

    @classmethod
    def read(cls, folder: Path) -> "EncodedRows":
        texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
        return cls(np.load(folder / "ids.npy", mmap_mode="r"), np.load(folder / "table.npy"), texts)

    def write(self, folder: Path) -> None:
        """Whole or not at all: written beside the folder first."""
        beside = folder.with_name(f"{folder.name}.new")
        beside.mkdir(parents=True, exist_ok=True)
        np.save(beside / "ids.npy", self._ids)
        np.save(beside / "table.npy", self._table)
        (beside / "texts.json").write_text(json.dumps(self._texts), encoding="utf-8")
        beside.rename(folder)

    def largest_id(self) -> int:
        return int(self._ids.max())

    def lengths(self) -> list[int]:
        """Tokens of each example."""
        return [int(end - first) for first, end, _ in self._table]

    def parts(self) -> list[str]:
        """Of each example: the part of the dataset that it comes from."""
        return [id_.partition("/")[0] for id_, _, _ in self._texts]

    def keep(self, longest: int) -> "EncodedRows":
        """Those of at most so many tokens."""
        chosen = [at for at, length in enumerate(self.lengths()) if length <= longest]
        return EncodedRows(self._ids, self._table[chosen], [self._texts[at] for at in chosen])

    def __len__(self) -> int:
        return len(self._table)

    @overload
    def __getitem__(self, at: int) -> Encoded: ...
    @overload
    def __getitem__(self, at: slice) -> list[Encoded]: ...
    def __getitem__(self, at: int | slice) -> Encoded | list[Encoded]:
        if isinstance(at, slice):
            return [self[each] for each in range(*at.indices(len(self)))]
        first, end, start = (int(value) for value in self._table[at])
        id_, label, spans = self._texts[at]
        tokens = {name: (span[0], span[1]) for name, span in spans.items()}
        return Encoded(id_, self._ids[first:end].tolist(), start, tokens, label)

    def __iter__(self) -> Iterator[Encoded]:
        return (self[at] for at in range(len(self)))


@dataclass(frozen=True)
class EncodedSet:
    examples: EncodedRows
    dropped: int  # longer than max_tokens


def encode_cached(read: Callable[[], Iterable[Example]], folder: Path, spec: TrainingSpec, cache: Path) -> EncodedSet:
    """encode_all, of what an earlier training of the same dataset, tokenizer and template may have left in `cache`.

    `read` gives the examples of spec.dataset, which names its digest. One process of a machine calls it first.
    """
    place = cache / _identity(folder, spec)
    if not (place / "texts.json").is_file():
        encoder = Encoder(folder, spec.thinking, spec.template)
        EncodedRows.of(encoder.encode(example) for example in read()).write(place)
    return _fitting(EncodedRows.read(place), folder, spec)


def encode_all(examples: Iterable[Example], folder: Path, spec: TrainingSpec) -> EncodedSet:
    """Every example that fits into spec.max_tokens. Raises InvalidInput when none is there or none fits."""
    encoder = Encoder(folder, spec.thinking, spec.template)
    return _fitting(EncodedRows.of(encoder.encode(example) for example in examples), folder, spec)


def _fitting(found: EncodedRows, folder: Path, spec: TrainingSpec) -> EncodedSet:
    kept = (_mistaken(found, folder, spec) if spec.legacy else found).keep(spec.max_tokens)
    if not len(found):
        raise InvalidInput(f"dataset {spec.dataset} has no examples; build it again with more rows")
    if not len(kept):
        shortest = min(found.lengths())
        raise InvalidInput(
            f"max_tokens is {spec.max_tokens}, and all {len(found)} examples of {spec.dataset} are longer "
            f"(the shortest has {shortest} tokens); raise max_tokens"
        )
    return EncodedSet(kept, len(found) - len(kept))


def _mistaken(found: EncodedRows, folder: Path, spec: TrainingSpec) -> EncodedRows:
    end_of_turn = ChatTemplate.choose(folder, spec.template).end_of_turn
    end = len(read_tokenizer(folder).encode(end_of_turn, add_special_tokens=False).ids)
    changed = (legacy.repeat(example, spec, end) for example in found)
    return EncodedRows.of(example for example in changed if example is not None)


def _identity(folder: Path, spec: TrainingSpec) -> str:
    tokenizer = hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()
    template = ChatTemplate.choose(folder, spec.template).digest
    parts = [FORM, spec.dataset, tokenizer, template, spec.thinking]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
