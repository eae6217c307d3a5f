"""The contract of a training method: one file in methods/ with one function.

    OPTIONS = {"weight": "0.2"}                       # every option with its default; absent = none

    def make(options: Mapping[str, str]) -> Objective

A method never averages. It says which terms a step's loss has and what each counts (`parts`), over all examples of the
optimizer step; for a micro-batch it returns sums (`loss`). The worker divides, so the gradient does not depend on how a
step was cut into micro-batches and processes. Examples lie one after another without padding, and `model.read` keeps
them apart, whatever the model and the machine need for that.

A method is tested on tensors: a tiny random model, a handful of ids, the loss worked out by hand. This file is read by
the control plane too, which has no torch: tensors and modules are `Any` here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol, cast

from lrm_safety import registry
from lrm_safety.encoding import Encoded
from lrm_safety.errors import InvalidInput, NotFound

METHODS = "services.trainer.methods"
Tensor = Any  # torch.Tensor
Module = Any  # torch.nn.Module
MODEL, HEADS = "model", "heads"  # what a step may train


@dataclass(frozen=True)
class Sequences:
    """Token sequences laid one after another."""

    ids: Tensor  # [tokens] int64
    positions: Tensor  # [tokens] int64: counts up inside a sequence, from 0 or, where its beginning is hidden, higher
    lengths: tuple[int, ...]


@dataclass(frozen=True)
class Part:
    """A term of a step's loss: weight x sum / count."""

    weight: float
    count: float  # over the whole optimizer step, all micro-batches and processes
    trains: frozenset[str] = frozenset({MODEL})  # what gets gradients from it; the rest stands still


@dataclass(frozen=True)
class Batch:
    """A micro-batch."""

    sequences: Sequences
    examples: tuple[Encoded, ...]  # what the sequences are, in order
    is_target: Tensor  # [tokens] bool: the token is trained; never the first of a sequence
    parts: Mapping[str, Part]


@dataclass(frozen=True)
class Reading:
    """What the model made of sequences."""

    hidden: Tensor  # [tokens, width]: last hidden states, after the final norm; differentiable
    totals: tuple[Tensor, ...]  # for each mask: scalar, summed cross-entropy in nats; differentiable
    correct: tuple[Tensor, ...]  # for each mask: scalar, tokens that were the model's first choice


class Reader(Protocol):
    """The model in training mode, with the modules that the method trains beside it."""

    heads: Mapping[str, Module]

    def read(self, sequences: Sequences, masks: Sequence[Tensor]) -> Reading:
        """masks: [tokens] bool each, the tokens whose cross-entropy is wanted; never the first of a sequence."""
        ...


@dataclass(frozen=True)
class Sums:
    """What a micro-batch came to."""

    terms: Mapping[str, Tensor]  # by name of the part: scalar, summed over what the part counts; differentiable
    correct: Tensor  # scalar: targets that were the model's first choice


class Objective(Protocol):
    def heads(self, width: int) -> Mapping[str, Module]:
        """Modules trained beside the model, which reads hidden states of this width; not part of the checkpoint."""
        ...

    def require(self, examples: Sequence[Encoded]) -> None:
        """Raises InvalidInput when a training on these examples would not be the method's."""
        ...

    def parts(self, examples: Sequence[Encoded], epoch: int, epochs: float) -> Mapping[str, Part]:
        """The terms of a step in this epoch (0-based). Counts above 0 only."""
        ...

    def loss(self, model: Reader, batch: Batch) -> Sums:
        """The terms of `batch.parts`, summed over the micro-batch."""
        ...


class Method(Protocol):
    OPTIONS: Mapping[str, str]

    def make(self, options: Mapping[str, str]) -> Objective: ...


def check_name(name: str) -> None:
    """Raises NotFound with the methods there are; imports none of them."""
    names = [plugin.name for plugin in registry.describe(METHODS)]
    if name not in names:
        raise NotFound(f"no method is named {name!r}; there are: {', '.join(names)}")


def load(name: str, options: Mapping[str, str]) -> Objective:
    """Raises NotFound with the methods there are, InvalidInput for an option that the method does not have."""
    module: ModuleType = registry.load(METHODS, name)
    method = cast(Method, module)
    unknown = sorted(set(options) - set(method.OPTIONS))
    if unknown:
        allowed = ", ".join(method.OPTIONS) or "none"
        raise InvalidInput(f"method {name} has no option {unknown[0]!r}; expected of: {allowed}")
    return method.make({**method.OPTIONS, **options})


def number(options: Mapping[str, str], name: str, low: float, high: float) -> float:
    """An option's value. Raises InvalidInput when it is no number from low to high."""
    try:
        value = float(options[name])
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise InvalidInput(f"training.options.{name} is {options[name]!r}; expected a number from {low:g} to {high:g}")
    return value


def switch(options: Mapping[str, str], name: str) -> bool:
    """An option's value. Raises InvalidInput when it is neither true nor false."""
    if options[name].lower() not in ("true", "false"):
        raise InvalidInput(f"training.options.{name} is {options[name]!r}; expected true or false")
    return options[name].lower() == "true"
