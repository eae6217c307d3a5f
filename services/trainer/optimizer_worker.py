"""AdamW that leaves alone what a step does not train, whichever way its state is shared.

Torch's own passes over parameters without a gradient. ZeRO shows it one flat tensor, with zeros where there is none:
moments and weights would go on moving, and the first update of what joins late would be another one.
"""

from collections.abc import Callable, Collection
from typing import Any

import torch

from lrm_safety.nouns import TrainingSpec


class Optimizer(torch.optim.AdamW):
    """Steps the groups that `choose` named last; all of them at first."""

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        every = self.param_groups
        self.param_groups = [group for group in every if group["is_trained"]]
        try:
            super().step()
        finally:
            self.param_groups = every


def make_optimizer(trained: torch.nn.Module, spec: TrainingSpec) -> Optimizer:
    return Optimizer(_groups(trained, spec), lr=spec.learning_rate, betas=(0.9, spec.adam_beta2), fused=True)


def choose(engine: Any, trained: Collection[str], rate: float) -> None:
    """What the next step trains, and how fast."""
    for group in engine.optimizer.param_groups:
        group["is_trained"], group["lr"] = group["of"] in trained, rate
    if engine.zero_optimization_stage() == 3:  # it would count the last gradient of what gets none now
        engine.optimizer.grad_partitions_flat_buffer.zero_()


def _groups(trained: torch.nn.Module, spec: TrainingSpec) -> list[dict[str, Any]]:
    """By what of `trained` they belong to: method.MODEL, method.HEADS. Biases and norms are not decayed."""
    found: dict[tuple[str, float], list[torch.nn.Parameter]] = {}
    for name, parameter in trained.named_parameters():
        if parameter.requires_grad:
            decay = spec.weight_decay if parameter.ndim > 1 else 0.0
            found.setdefault((name.partition(".")[0], decay), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": decay, "of": of, "is_trained": True}
        for (of, decay), parameters in found.items()
    ]
