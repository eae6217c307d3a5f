"""The examples that a training reads: encoded, and those that are too long counted."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lrm_safety.encoding import Encoded, Encoder, pad_token, read_tokenizer
from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import Example, TrainingSpec

__all__ = ["Encoded", "EncodedSet", "Encoder", "encode_all", "pad_token", "read_tokenizer"]


@dataclass(frozen=True)
class EncodedSet:
    examples: list[Encoded]
    dropped: int  # longer than max_tokens


def encode_all(examples: Iterable[Example], folder: Path, spec: TrainingSpec) -> EncodedSet:
    """Every example that fits into spec.max_tokens. Raises InvalidInput when none is there or none fits."""
    encoder = Encoder(folder, spec.thinking)
    found = [encoder.encode(example) for example in examples]
    kept = [encoded for encoded in found if len(encoded.ids) <= spec.max_tokens]
    if not found:
        raise InvalidInput(f"dataset {spec.dataset} has no examples; build it again with more rows")
    if not kept:
        shortest = min(len(encoded.ids) for encoded in found)
        raise InvalidInput(
            f"max_tokens is {spec.max_tokens}, and all {len(found)} examples of {spec.dataset} are longer "
            f"(the shortest has {shortest} tokens); raise max_tokens"
        )
    return EncodedSet(kept, len(found) - len(kept))
