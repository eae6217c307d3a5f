"""How a model is run over sequences: packed, where it can be shown to be the same, else padded.

Packed: one row of tokens without padding; positions begin anew with each sequence and attention stays inside it. On
GPUs FlashAttention knows such rows: the package where it is installed, else torch's own. Elsewhere attention is taken
sequence by sequence over slices of the row, and all other layers see one long matrix.

The head is run on those tokens alone whose prediction is wanted: with a large vocabulary it costs as much as all layers
of a small model. It stays the model's own module, so that ZeRO-3 gathers its weight as of any other.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, cast

import torch
from torch.nn import functional
from torch.nn.attention.varlen import varlen_attn
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface, PreTrainedModel

from services.trainer import cross_entropy_worker
from services.trainer.method import Reading, Sequences

SLICES = "within_sequences"
VARLEN = "varlen_within_sequences"
FLASH = "flash_attention_2"


@dataclass(frozen=True)
class Way:
    """A way to run a model; every one comes to the same numbers, or is not taken."""

    attention: str  # the model's attention implementation
    is_packed: bool
    is_fused: bool  # loss and gradient of the head in one go, without logits; else logits of the wanted tokens


def ways(model: PreTrainedModel, longest: int) -> list[Way]:
    """Those that may do for sequences of up to `longest` tokens, the fastest first. GPUs' own only where the model is
    on one already.
    """
    own, attentions = str(model.config._attn_implementation), [SLICES]
    if model.device.type == "cuda":
        is_dropping = bool(getattr(model.config, "attention_dropout", 0))  # which torch's own does not
        attentions = [FLASH] * bool(find_spec("flash_attn")) + [VARLEN] * (not is_dropping) + attentions
    window = getattr(model.config.get_text_config(), "sliding_window", None)
    if window and longest > window:  # only the package's kernel knows windows
        attentions = [each for each in attentions if each == FLASH]
    packings = [Way(attention, True, is_fused) for attention in attentions for is_fused in (True, False)]
    return [*packings, Way(own, False, True), Way(own, False, False)]


class Forward:
    """A model to read with, one way; method.Reader."""

    def __init__(self, model: PreTrainedModel, way: Way, heads: Mapping[str, torch.nn.Module]) -> None:
        self._model, self._way, self.heads = model, way, heads

    def read(self, sequences: Sequences, masks: Sequence[torch.Tensor]) -> Reading:
        """See method.Reader."""
        layout = packed(sequences, self._way.attention) if self._way.is_packed else padded(sequences)
        seen: list[torch.Tensor] = []
        head = output_head(self._model)
        if self._way.is_fused:
            sums = self._fused(layout, head, seen, (sequences.ids, masks))
        else:
            sums = self._plain(layout, head, seen, (sequences.ids, masks))
        return Reading(seen[0], tuple(total for total, _ in sums), tuple(correct for _, correct in sums))

    def _fused(
        self, layout: "Layout", head: torch.nn.Module, seen: list[torch.Tensor], wanted: "Wanted"
    ) -> list["Sum"]:
        """The head's own forward pass is replaced by one that ends in the losses."""
        ids, masks = wanted

        def losses(hidden: torch.Tensor) -> torch.Tensor:
            seen.append(layout.flatten(hidden))
            weight: Any = head.weight
            sums = [cross_entropy_worker.fused(seen[0][_before(mask)], weight, ids[mask]) for mask in masks]
            return torch.stack([value for pair in sums for value in pair])

        head.forward = losses
        try:
            values = self._model(**layout.inputs, use_cache=False).logits
        finally:
            del head.forward
        return [(values[2 * at], values[2 * at + 1]) for at in range(len(masks))]

    def _plain(
        self, layout: "Layout", head: torch.nn.Module, seen: list[torch.Tensor], wanted: "Wanted"
    ) -> list["Sum"]:
        """The selection sits in front of the head, so what the model does behind it (scaling, soft caps) stays."""
        ids, masks = wanted
        rows = torch.cat([_before(mask) for mask in masks])

        def select(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
            seen.append(layout.flatten(inputs[0]))
            return seen[0][rows]

        hook = head.register_forward_pre_hook(select)
        try:
            logits = self._model(**layout.inputs, use_cache=False).logits
        finally:
            hook.remove()
        pieces = logits.split([int(mask.sum()) for mask in masks])
        return [cross_entropy_worker.plain(piece, ids[mask]) for piece, mask in zip(pieces, masks, strict=True)]


Wanted = tuple[torch.Tensor, Sequence[torch.Tensor]]  # ids, masks
Sum = tuple[torch.Tensor, torch.Tensor]  # total, correct


@dataclass(frozen=True)
class Layout:
    inputs: Mapping[str, Any]  # of the model
    flatten: Callable[[torch.Tensor], torch.Tensor]  # [rows, length, width] -> [tokens, width]


def output_head(model: PreTrainedModel) -> torch.nn.Module:
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    if not isinstance(head, torch.nn.Module):
        raise TypeError(f"{type(model).__name__} has no output head")
    return head


def packed(sequences: Sequences, attention: str) -> Layout:
    """One row; attention learns from its own arguments where a sequence ends."""
    inputs: dict[str, Any] = {"input_ids": sequences.ids[None], "position_ids": sequences.positions[None]}
    if attention == SLICES:
        inputs["sequence_lengths"] = sequences.lengths
    else:
        ends = torch.tensor([0, *sequences.lengths]).cumsum(0).to(sequences.ids.device, torch.int32)
        longest = max(sequences.lengths)
        inputs |= {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": longest, "max_length_k": longest}
    return Layout(inputs, lambda hidden: hidden[0])


def padded(sequences: Sequences) -> Layout:
    """One row a sequence, padded on the right: under causal attention no other token sees the padding."""
    lengths = sequences.lengths
    ids = pad_sequence(list(sequences.ids.split(lengths)), batch_first=True)
    steps = torch.arange(ids.shape[1], device=ids.device)
    firsts = torch.stack([piece[0] for piece in sequences.positions.split(lengths)])
    is_real = steps[None] < torch.tensor(lengths, device=ids.device)[:, None]
    inputs = {"input_ids": ids, "position_ids": firsts[:, None] + steps[None]}
    return Layout(inputs, lambda hidden: hidden[is_real])


def attend_within(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention inside each of `sequence_lengths`; query, key, value [1, heads, tokens, width of a head].

    A new attention of transformers' AttentionInterface. Raises NotImplementedError for what it does not compute.
    """
    lengths = options["sequence_lengths"]
    _require_plain(options, max(lengths))
    groups = query.shape[1] // key.shape[1]
    rows = zip(*(tensor.split(lengths, 2) for tensor in (query, key, value)), strict=True)  # type: ignore[no-untyped-call]
    pieces = [
        functional.scaled_dot_product_attention(
            q,
            k.repeat_interleave(groups, 1) if groups > 1 else k,
            v.repeat_interleave(groups, 1) if groups > 1 else v,
            is_causal=True,
            dropout_p=float(options.get("dropout", 0.0)),
            scale=options.get("scaling"),
        )
        for q, k, v in rows
    ]
    return torch.cat([piece.transpose(1, 2) for piece in pieces], dim=1), None


def attend_varlen(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """The same in one kernel of torch's, on GPUs in half precision; sequences end at `cu_seq_lens_q`."""
    ends, longest = options["cu_seq_lens_q"], options["max_length_q"]
    _require_plain(options, longest)
    q, k, v = (tensor[0].transpose(0, 1).to(value.dtype) for tensor in (query, key, value))
    attended = varlen_attn(
        q, k, v, ends, ends, longest, longest, scale=options.get("scaling"), window_size=(-1, 0), enable_gqa=True
    )
    return cast(torch.Tensor, attended)[None], None


def _require_plain(options: Mapping[str, Any], longest: int) -> None:
    window = options.get("sliding_window")
    if options.get("softcap") is not None or (window is not None and longest > window):
        raise NotImplementedError("attention with a soft cap or a sliding window")


def _before(mask: torch.Tensor) -> torch.Tensor:
    """Positions of the tokens that predict the masked ones."""
    return mask.nonzero().flatten() - 1


AttentionInterface.register(SLICES, attend_within)
AttentionInterface.register(VARLEN, attend_varlen)
