"""Supervised fine-tuning: cross-entropy on the assistant's tokens and no others.

What every study of safety fine-tuning of reasoning models starts from (STAR-1, Safety Tax, SafeKey's L_SFT).
Data: any dataset. Metric: mean loss and accuracy per trained token.
"""

from typing import Any

import torch
from torch.nn import functional

from services.trainer.method import Batch, LossSum


def loss(model: Any, batch: Batch) -> LossSum:
    """Summed cross-entropy of the target tokens, each predicted from the tokens before it."""
    labels = batch.ids[batch.is_target]
    return cross_entropy_sum(target_logits(model, batch), labels)


def target_logits(model: Any, batch: Batch) -> torch.Tensor:
    """[targets, vocabulary]: the logits that predict the target tokens, in the order of `ids[is_target]`.

    The head runs on these positions alone: with a large vocabulary it costs as much as all layers of a small model.
    The selection sits in front of the head, so whatever a model does behind it (scaling, soft caps) stays in place.
    """
    wanted = batch.is_target[:, 1:]
    head = model.get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda _, inputs: (inputs[0][:, :-1][wanted],))
    try:
        logits: torch.Tensor = model(input_ids=batch.ids, use_cache=False).logits
    finally:
        hook.remove()
    return logits


def cross_entropy_sum(logits: torch.Tensor, labels: torch.Tensor) -> LossSum:
    """logits [n, vocabulary] of any float type, labels [n]; the sum is taken in fp32."""
    total = functional.cross_entropy(logits.float(), labels, reduction="sum")
    return LossSum(total, (logits.detach().argmax(-1) == labels).sum())
