"""Liger's kernels for norms, rotations and gated layers (Hsu et al., 2410.10989), where a short trial says they pay.

On a GPU, with the extra `liger` and a C compiler, which Triton needs. Before a job a few steps are taken with the plain
layers and with the kernels; those are kept that come to the same loss and gradients and are faster. The loss is ours
either way. Under ZeRO-3 nothing is tried: the model is not on the device before the engine spreads it.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from typing import Any, Protocol

import torch
import torch.distributed as dist
from transformers import PreTrainedModel

from lrm_safety import observe
from lrm_safety.encoding import Encoded
from lrm_safety.nouns import TrainingSpec
from services.trainer import engine_worker, proof_worker
from services.trainer.forward_worker import Way
from services.trainer.ledger import Ledger
from services.trainer.proof_worker import Measured

log = observe.logger(__name__)
PLAIN, LIGER = "plain", "liger"
TOKENS = 2048  # of a step that is tried
STEPS = 5  # of which the fastest counts, after one that compiles
MUST_WIN_BY = 1.02


@dataclass(frozen=True)
class Trial:
    kernels: str = PLAIN
    step_s: dict[str, float] = field(default_factory=dict)  # forward and backward, by kernels; empty: nothing was tried
    error: float = 0.0  # relative difference of loss or gradients


class Kernels(Protocol):
    def apply(self) -> None: ...
    def undo(self) -> None: ...


def agree(
    model: PreTrainedModel, way: Way, examples: Sequence[Encoded], spec: TrainingSpec, precision: str, ledger: Ledger
) -> Trial:
    """The kernels of the whole run, applied: all processes and all attempts take the first one's choice."""
    kernels, chosen = Liger(model), [""]
    if dist.get_rank() == 0:
        trial = Trial()
        if model.device.type == "cuda" and find_spec("liger_kernel"):
            shown = [examples[at] for at in range(min(spec.micro_batch_size, len(examples)))]
            step = step_of(model, way, shown, precision)
            trial = choose(step, kernels, proof_worker.TOLERANCE[precision])
            model.zero_grad(set_to_none=True)
        chosen = [ledger.choose("kernels", json.dumps(asdict(trial)))]
    dist.broadcast_object_list(chosen, device=engine_worker.device())
    trial = Trial(**json.loads(chosen[0]))
    if trial.kernels == LIGER:
        kernels.apply()
    return trial


def choose(step: Callable[[], Measured], kernels: Kernels, tolerance: float) -> Trial:
    """Takes steps without the kernels and with them, which are undone again."""
    try:
        plain_s, plain = _timed(step)
        kernels.apply()
        liger_s, liger = _timed(step)
    except Exception as error:  # noqa: BLE001  compilers and kernels fail in many ways; the plain layers go on
        log.warning("kernels_failed", reason=type(error).__name__)
        return Trial()
    finally:
        kernels.undo()
    error_size = proof_worker.difference(plain, liger)
    is_better = error_size <= tolerance and plain_s > liger_s * MUST_WIN_BY
    trial = Trial(LIGER if is_better else PLAIN, {PLAIN: plain_s, LIGER: liger_s}, error_size)
    log.info("kernels_chosen", **asdict(trial))
    return trial


def step_of(model: PreTrainedModel, way: Way, examples: Sequence[Encoded], precision: str) -> Callable[[], Measured]:
    """Forward and backward over some examples, to the end on the device."""
    pieces = proof_worker.pieces(examples, TOKENS)

    def step() -> Measured:
        with torch.autocast(model.device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss = proof_worker.together(model, way, pieces)
        found, slopes = proof_worker.measure(model, loss)
        return found, slopes.cpu()  # waits for the device

    return step


class Liger:
    """The kernels in one model. Other models of its class, such as the export's second look on the CPU, stay plain."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._names = vars(sys.modules[type(model).__module__])  # where the architecture's layers and functions stand
        self._before: dict[str, Any] = {}
        self._modules: list[dict[str, Any]] = []

    def apply(self) -> None:
        """Raises NotImplementedError for an architecture that Liger does not know."""
        from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN, _apply_liger_kernel_to_instance

        if self._model.config.model_type not in MODEL_TYPE_TO_APPLY_LIGER_FN:
            raise NotImplementedError(f"kernels for {self._model.config.model_type}")
        self._before = dict(self._names)
        self._modules = [dict(vars(module)) for module in self._model.modules()]
        _apply_liger_kernel_to_instance(model=self._model, cross_entropy=False, fused_linear_cross_entropy=False)
        rotations = {name: self._names[name] for name in ("apply_rotary_pos_emb",) if name in self._names}
        self._names.update(self._before)  # the model's own layers keep theirs
        self._names.update({name: _on_gpus(new, self._before[name]) for name, new in rotations.items()})

    def undo(self) -> None:
        """Everything as it was before `apply`; nothing when that was not called."""
        self._names.update(self._before)
        for module, before in zip(self._model.modules(), self._modules, strict=False):
            vars(module).clear()
            vars(module).update(before)
        self._before, self._modules = {}, []


def _on_gpus(fast: Callable[..., Any], plain: Callable[..., Any]) -> Callable[..., Any]:
    """A rotation of queries and keys, by where they are: the name is shared by all models of an architecture."""

    def rotate(query: torch.Tensor, *others: Any, **options: Any) -> Any:
        return (fast if query.is_cuda else plain)(query, *others, **options)

    return rotate


def _timed(step: Callable[[], Measured]) -> tuple[float, Measured]:
    measured, best = step(), float("inf")
    for _ in range(STEPS):
        started = time.perf_counter()
        step()
        best = min(best, time.perf_counter() - started)
    return best, measured
