"""What a training needs in memory, reckoned before it starts: of each process, in GiB, every part at least."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import TrainingSpec

GIB = 2**30
FP32 = 4  # bytes
LAYER_BYTES = {"fp32": (40, 16), "bf16": (32, 8)}  # kept of a token for the backward pass, by hidden and intermediate
FULL = 0.9  # of the memory: what is reckoned is the least


@dataclass(frozen=True)
class Shape:
    """Of a decoder."""

    parameters: float
    layers: int
    hidden: int
    intermediate: int
    positions: int  # the longest sequence it was made for; 0 = not said
    vocabulary: int
    updated: int = 0  # of a layer's matrices, the sum of their two sides: LoRA's updates of rank 1

    @classmethod
    def read(cls, folder: Path, parameters: float) -> "Shape":
        """From config.json; parts that an architecture names differently count as nothing."""
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        names = ("num_hidden_layers", "hidden_size", "intermediate_size", "max_position_embeddings", "vocab_size")
        return replace(cls(parameters, *(int(config.get(name) or 0) for name in names)), updated=_sides(config))

    def trained(self, spec: TrainingSpec) -> float:
        """Numbers that have gradients: of LoRA's updates where it is asked for."""
        return spec.lora.rank * self.layers * self.updated if spec.HasField("lora") else self.parameters


def estimate(shape: Shape, spec: TrainingSpec, precision: str, tokens: float) -> dict[str, float]:
    """GiB on a process's device, by what for. `tokens`: of the largest micro-batch.

    Weights, gradients and Adam's moments are fp32; ZeRO shares them out and keeps a flat fp32 copy beside the weights
    that are trained. Activations are what the layers keep for the backward pass, with the weights that are cast to bf16
    for them.
    """
    trained, share = shape.trained(spec), 1 / spec.processes
    held = shape.parameters + (trained if spec.HasField("lora") else 0.0)
    is_offloaded = spec.offload != "none"
    weights = 0.0 if spec.offload == "parameters" else held * (share if spec.zero_stage == 3 else 1)
    gradients = 0.0 if is_offloaded else trained * (share if spec.zero_stage >= 2 else 1)
    moments = 0.0 if is_offloaded else (3 * trained * share if spec.zero_stage else 2 * trained)
    needs = {
        "weights": FP32 * weights,
        "gradients": FP32 * gradients,
        "optimizer": FP32 * moments,
        "activations": _activations(shape, precision, tokens, spec.gradient_checkpointing),
    }
    return {name: round(size / GIB, 3) for name, size in needs.items()}


def fit(
    shape: Shape, spec: TrainingSpec, precision: str, tokens: float, has_gib: float
) -> tuple[bool, dict[str, float]]:
    """(whether gradients are checkpointed: where that is asked for, or needed; the estimate).

    Raises InvalidInput when it does not fit either way.
    """
    plain = estimate(shape, spec, precision, tokens)
    if spec.gradient_checkpointing or sum(plain.values()) <= FULL * has_gib:
        require_fit(plain, has_gib, spec)
        return spec.gradient_checkpointing, plain
    saving = TrainingSpec()
    saving.CopyFrom(spec)
    saving.gradient_checkpointing = True
    needs = estimate(shape, saving, precision, tokens)
    require_fit(needs, has_gib, saving)
    return True, needs


def require_fit(needs: Mapping[str, float], has_gib: float, spec: TrainingSpec) -> None:
    """Raises InvalidInput, with every part and what would make it smaller, when a process has less than it needs."""
    total = sum(needs.values())
    if total <= has_gib:
        return
    ways = [
        (spec.processes > 1 and spec.zero_stage < 3, "zero_stage: 3"),
        (spec.processes == 1, "more processes"),
        (spec.offload != "parameters", "offload: parameters" if spec.zero_stage == 3 else "offload: optimizer"),
        (spec.micro_batch_size > 1, "a smaller micro_batch_size"),
        (True, "a smaller max_tokens"),
    ]
    parts = ", ".join(f"{name} {size:.1f}" for name, size in needs.items())
    raise InvalidInput(
        "the training does not fit, even with gradient checkpointing: each process needs at least "
        f"{total:.1f} GiB ({parts}) and has {has_gib:.1f}; "
        f"try {', '.join(way for is_open, way in ways if is_open)}"
    )


def require_sense(shape: Shape, longest: int, largest_id: int) -> None:
    """Raises InvalidInput when an example is longer than the model reads, or holds a token that it does not have."""
    if shape.positions and longest > shape.positions:
        raise InvalidInput(
            f"the longest example has {longest} tokens and the model reads {shape.positions} "
            f"(max_position_embeddings); set max_tokens: {shape.positions} or less"
        )
    if shape.vocabulary and largest_id >= shape.vocabulary:
        raise InvalidInput(
            f"the tokenizer writes token {largest_id} and the model has {shape.vocabulary}: they do not belong "
            "together; import weights and tokenizer of one model"
        )


def _sides(config: Mapping[str, Any]) -> int:
    """Of queries, keys, values, what they come to, and the three matrices behind: 0 where it is not said so."""
    hidden, inside, heads = (
        int(config.get(name) or 0) for name in ("hidden_size", "intermediate_size", "num_attention_heads")
    )
    if not heads:
        return 0
    width = int(config.get("head_dim") or hidden // heads)
    pairs = int(config.get("num_key_value_heads") or heads)
    return 2 * (hidden + heads * width) + 2 * (hidden + pairs * width) + 3 * (hidden + inside)


def _activations(shape: Shape, precision: str, tokens: float, is_checkpointed: bool) -> float:
    """Bytes. Checkpointed: each layer's input, and one layer at a time."""
    of_hidden, of_intermediate = LAYER_BYTES[precision]
    layer = of_hidden * shape.hidden + of_intermediate * shape.intermediate
    kept = FP32 * shape.hidden * shape.layers + layer if is_checkpointed else layer * shape.layers
    cast = 0.0 if precision == "fp32" else 2 * max(0.0, shape.parameters - 2 * shape.vocabulary * shape.hidden)
    return kept * tokens + cast
