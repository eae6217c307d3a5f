"""Cross-entropy of a linear head that never holds a number for every token and every word of the vocabulary.

Both gradients are made together with the loss, chunk by chunk (as in Hsu et al., Liger Kernel, 2410.10989, section
3.2): three products with the head's matrix instead of the four that a recomputation in the backward pass would take.
"""

from typing import Any

import torch
from torch.nn import functional

# tokens at a time: 50 MB of logits in fp32 at 49,152 words; 620 MB at 152,064 on GPUs, which with fewer would spend
# much of their time on the head's gradient: it is read and written each time
ROWS = {"cpu": 256, "cuda": 1024}


def fused(hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(summed cross-entropy in nats, number of labels that were the first choice).

    hidden [n, width], weight [vocabulary, width], labels [n] int64. Under autocast the products are taken in its type,
    everything else in fp32.
    """
    total, correct = _Fused.apply(hidden, weight, labels)  # type: ignore[no-untyped-call]
    return total, correct


def plain(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same of logits [n, vocabulary] of any float type."""
    total = functional.cross_entropy(logits.float(), labels, reduction="sum")
    return total, (logits.detach().argmax(-1) == labels).sum().float()


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any, hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        kind = hidden.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        with torch.autocast(kind, enabled=False):
            total, correct, gradients = _chunks(
                hidden.to(dtype), weight.to(dtype), labels, context.needs_input_grad[:2]
            )
        context.save_for_backward(*gradients)
        context.types = hidden.dtype, weight.dtype
        context.mark_non_differentiable(correct)
        return total, correct

    @staticmethod
    def backward(context: Any, scale: torch.Tensor, _: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        of_hidden, of_weight = (
            gradient.mul_(scale).to(dtype) if wanted else None
            for gradient, dtype, wanted in zip(
                context.saved_tensors, context.types, context.needs_input_grad[:2], strict=True
            )
        )
        return of_hidden, of_weight, None


def _chunks(
    hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, needed: tuple[bool, bool]
) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    total = torch.zeros((), device=hidden.device)
    correct = torch.zeros((), device=hidden.device)
    of_hidden = torch.zeros_like(hidden) if needed[0] else hidden.new_empty(0)
    of_weight = torch.zeros_like(weight, dtype=torch.float32) if needed[1] else hidden.new_empty(0)
    at_once = ROWS[hidden.device.type]
    for start in range(0, len(labels), at_once):
        rows, wanted = hidden[start : start + at_once], labels[start : start + at_once, None]
        logits = torch.mm(rows, weight.T).float()
        best, first = logits.max(-1, keepdim=True)
        chosen = logits.gather(-1, wanted)
        logits.sub_(best).exp_()  # from here on: probabilities, not yet divided
        mass = logits.sum(-1, keepdim=True)
        total += (mass.log() + best - chosen).sum()
        correct += (first == wanted).sum()
        logits.div_(mass).scatter_add_(-1, wanted, torch.full_like(mass, -1.0))
        slope = logits.to(weight.dtype)
        if needed[0]:
            torch.mm(slope, weight, out=of_hidden[start : start + at_once])
        if needed[1]:
            of_weight += torch.mm(slope.T, rows)
    return total, correct, (of_hidden, of_weight)
