"""The contract of a training method: one file in methods/ with one function.

    def loss(model, batch: Batch) -> LossSum

`model` is the Hugging Face causal language model in training mode (already under DeepSpeed and autocast: run it as it
is); the result is differentiated. A method sums over the tokens it trains and never averages: the worker divides by
the number of trained tokens of the whole optimizer step, over all micro-batches and processes, so that the gradient
does not depend on how a step was cut into pieces.

A method is tested on tensors: a tiny random model, a handful of ids, the loss worked out by hand. This file is read by
the control plane too, which has no torch: tensors are `Any` here.
"""

from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol, cast

from lrm_safety import registry
from lrm_safety.errors import NotFound

METHODS = "services.trainer.methods"
Tensor = Any  # torch.Tensor


@dataclass(frozen=True)
class Batch:
    """A micro-batch. Sequences are padded on the right: under causal attention no other token sees the padding."""

    ids: Tensor  # [sequences, length] int64
    is_target: Tensor  # [sequences, length] bool: the token is trained; never the first of a sequence, never padding


@dataclass(frozen=True)
class LossSum:
    """What a micro-batch came to, summed over its target tokens."""

    total: Tensor  # scalar, differentiable, in nats
    correct: Tensor  # scalar int64: targets that were the model's first choice


class Method(Protocol):
    def loss(self, model: Any, batch: Batch) -> LossSum: ...


def check_name(name: str) -> None:
    """Raises NotFound with the methods there are; imports none of them."""
    names = [plugin.name for plugin in registry.describe(METHODS)]
    if name not in names:
        raise NotFound(f"no method is named {name!r}; there are: {', '.join(names)}")


def load(name: str) -> Method:
    """The method's module. Raises NotFound with the methods there are."""
    module: ModuleType = registry.load(METHODS, name)
    return cast(Method, module)
