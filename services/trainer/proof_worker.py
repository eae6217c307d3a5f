"""Shows, before a training begins, that the way it will run the model comes to the same loss and gradients.

Packing goes wrong silently: an architecture that ignores position ids, or mixes sequences in a layer that is not
attention, still trains, on something else. So two pieces of the training's own examples go through the whole model both
ways, and the fastest way that agrees with the plain one, each sequence alone, is taken.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import cast

import torch
import torch.distributed as dist
from torch.nn import functional
from transformers import PreTrainedModel

from lrm_safety import observe
from lrm_safety.encoding import Encoded
from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import TrainingSpec
from services.trainer import engine_worker
from services.trainer.encoding import EncodedRows
from services.trainer.forward_worker import Forward, Way, ways
from services.trainer.ledger import Ledger
from services.trainer.method import Sequences

log = observe.logger(__name__)
TOKENS = 48  # of each of the two pieces
SAMPLED = 4096  # numbers of each parameter's gradient that are compared
TOLERANCE = {"fp32": 1e-3, "bf16": 5e-2}  # of the gradients' difference in norm; a mixed-up sequence gives above 0.1


def agree(model: PreTrainedModel, examples: EncodedRows, spec: TrainingSpec, precision: str, ledger: Ledger) -> Way:
    """The way of the whole run: all processes and all attempts take the first one's choice.

    The model goes to its device before, unless ZeRO-3 is going to spread it: then this is shown where it is, in fp32,
    since many processors only emulate bf16.
    """
    if spec.zero_stage < 3:
        model.to(engine_worker.device())  # type: ignore[arg-type]
    chosen = [""]
    if dist.get_rank() == 0:
        way = choose_way(model, examples, precision if spec.zero_stage < 3 else "fp32")
        chosen = [ledger.choose("way", json.dumps(asdict(way)))]
    dist.broadcast_object_list(chosen, device=engine_worker.device())
    way = Way(**json.loads(chosen[0]))
    model.set_attn_implementation(way.attention)
    ledger.facts["packed"] = float(way.is_packed)
    return way


def choose_way(model: PreTrainedModel, examples: EncodedRows, precision: str) -> Way:
    """The fastest way that is the same training. The model is left in that way, without gradients.

    Raises InvalidInput when none is: the model does not predict each token from those before it.
    """
    two = pieces((examples[0], examples[-1]), 2 * TOKENS)
    was_training, device = model.training, model.device.type
    model.train(False)  # no dropout: the ways would draw different numbers
    try:
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            plain = measure(model, _alone(model, two))
            for way in ways(model, max(examples.lengths())):
                error = _error(model, way, two, plain)
                if error <= TOLERANCE[precision]:
                    log.info(
                        "way_chosen", attention=way.attention, packed=way.is_packed, fused=way.is_fused, error=error
                    )
                    return way
                log.warning(
                    "way_refused", attention=way.attention, packed=way.is_packed, fused=way.is_fused, error=error
                )
    finally:
        model.train(was_training)
        model.zero_grad(set_to_none=True)
    raise InvalidInput(
        f"{type(model).__name__} gives other losses for sequences together than for each alone; "
        "training needs a causal language model"
    )


Piece = tuple[list[int], int]  # ids, start of what is trained
Measured = tuple[float, torch.Tensor]  # loss, a sample of every parameter's gradient


def pieces(examples: Sequence[Encoded], tokens: int) -> list[Piece]:
    """Of each example as many tokens: the end of the prompt and the beginning of what is trained."""
    size, found = tokens // len(examples), []
    for example in examples:
        first = max(0, example.start - size // 2)
        found.append((list(example.ids[first : first + size]), max(1, example.start - first)))
    return found


def together(model: PreTrainedModel, way: Way, pieces: Sequence[Piece]) -> torch.Tensor:
    """Summed loss, run as the training will."""
    ids = torch.tensor([token for piece, _ in pieces for token in piece], device=model.device)
    positions = torch.cat([torch.arange(len(piece), device=model.device) for piece, _ in pieces])
    mask = torch.cat([torch.arange(len(piece), device=model.device) >= start for piece, start in pieces])
    sequences = Sequences(ids, positions, tuple(len(piece) for piece, _ in pieces))
    total: torch.Tensor = Forward(model, way, {}).read(sequences, [mask]).totals[0]
    return total


def measure(model: PreTrainedModel, loss: torch.Tensor) -> Measured:
    """Goes backward from the loss. Each gradient goes as soon as it is sampled: there may be no room for all."""
    model.zero_grad(set_to_none=True)
    samples: dict[torch.nn.Parameter, torch.Tensor] = {}

    def sample(parameter: torch.nn.Parameter) -> None:
        flat = cast(torch.Tensor, parameter.grad).flatten()
        samples[parameter] = flat[:: max(1, len(flat) // SAMPLED)].to(torch.float32, copy=True)
        parameter.grad = None

    trained = [each for each in model.parameters() if each.requires_grad]
    hooks = [each.register_post_accumulate_grad_hook(sample) for each in trained]  # type: ignore[no-untyped-call]
    try:
        loss.backward()  # type: ignore[no-untyped-call]
    finally:
        for hook in hooks:
            hook.remove()
    return loss.item(), torch.cat([samples[each] for each in trained if each in samples])


def difference(plain: Measured, other: Measured) -> float:
    """Relative, of loss or gradients, whichever is larger; nan when either is."""
    of_slopes = (other[1] - plain[1]).norm() / plain[1].norm()
    return float(torch.stack([of_slopes.new_tensor(abs(other[0] - plain[0]) / plain[0]), of_slopes]).max())


def _alone(model: PreTrainedModel, pieces: Sequence[Piece]) -> torch.Tensor:
    """Summed loss, each sequence by itself, from all its logits."""
    total = torch.zeros((), device=model.device)
    for ids, start in pieces:
        tokens = torch.tensor([ids], device=model.device)
        logits = model(input_ids=tokens, use_cache=False).logits[0].float()
        total = total + functional.cross_entropy(logits[start - 1 : -1], tokens[0, start:], reduction="sum")
    return total


def _error(model: PreTrainedModel, way: Way, pieces: Sequence[Piece], plain: Measured) -> float:
    """The difference; infinite when the model cannot be run so."""
    own = model.config._attn_implementation
    try:
        model.set_attn_implementation(way.attention)
        found = measure(model, together(model, way, pieces))
    except (RuntimeError, TypeError, ValueError, KeyError, AttributeError, ImportError) as error:
        log.warning("way_failed", attention=way.attention, reason=type(error).__name__)
        error_size = float("inf")
    else:
        error_size = difference(plain, found)
    if not error_size < float("inf"):
        model.set_attn_implementation(own)
    return error_size
