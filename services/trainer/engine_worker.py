"""The DeepSpeed engine around a model: the same code on CPU and GPU, from one process to many.

Torch's AdamW is used and DeepSpeed's own communication kernel is left out, so nothing is compiled on first use.
"""

import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import deepspeed
import deepspeed.ops
import torch
import torch.distributed as dist
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.initialization import no_init_weights
from transformers.utils import logging as transformers_logging

from lrm_safety import observe
from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import TrainingSpec
from services.trainer import lora_worker
from services.trainer.forward_worker import Forward, Way, output_head
from services.trainer.ledger import Ledger
from services.trainer.method import Batch, Objective
from services.trainer.optimizer_worker import make_optimizer
from services.trainer.resume_worker import Saved, restore_moments, restore_weights

log = observe.logger(__name__)
BF16_MUST_WIN_BY = 1.25  # casting costs something too
ALONE = timedelta(hours=6)  # how long all may wait for what one does alone: encoding, the proof, publishing


class Trained(torch.nn.Module):
    """The model with what its method trains beside it: what the engine runs forward."""

    def __init__(self, model: PreTrainedModel, objective: Objective, way: Way, spec: TrainingSpec) -> None:
        super().__init__()
        adapted = lora_worker.adapt(model, spec.lora, spec.seed) if spec.HasField("lora") else None
        self.model, self.way, self._objective = model, way, objective
        self._adapted = (adapted,)  # in a tuple, or its parameters would have a second name
        torch.manual_seed(spec.seed)
        self.heads = torch.nn.ModuleDict(objective.heads(_width(model)))

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """(the micro-batch's share of the step's loss, its sums: the terms of batch.parts, then correct tokens)."""
        sums = self._objective.loss(Forward(self.model, self.way, dict(self.heads.items())), batch)
        terms = torch.stack([sums.terms[name] for name in batch.parts])
        scale = terms.new_tensor([part.weight / part.count for part in batch.parts.values()])
        return (terms * scale).sum(), torch.cat([terms.detach(), sums.correct[None]])

    def exported(self) -> PreTrainedModel:
        """The plain model, with LoRA's updates merged into it: there is no training it further."""
        return lora_worker.merge(self._adapted[0]) if self._adapted[0] else self.model


def join_processes() -> None:
    """Connects the processes of this run: gloo on CPU, NCCL on GPU. RANK, WORLD_SIZE… come from the job."""
    deepspeed.ops.__compatible_ops__ = {}  # else its shared-memory kernel is compiled here, which takes a minute
    if torch.cuda.is_available():
        torch.cuda.set_device(dist.get_node_local_rank(0))
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    deepspeed.init_distributed(backend, auto_mpi_discovery=False, timeout=ALONE, verbose=False)


def leave_processes() -> None:
    """Ends the threads between the processes; left to the interpreter's end they may abort a process that is done."""
    if dist.is_initialized():
        dist.destroy_process_group()


def device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def load_model(folder: Path, is_hollow: bool = False) -> PreTrainedModel:
    """The checkpoint in fp32: the master weights. Raises InvalidInput when the folder is no causal language model.

    Hollow: with room for weights that is never written to, so that it takes up no memory. Under ZeRO-3 make_engine
    deals out the first process's weights, and nobody else needs them.
    """
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        if is_hollow:
            return _hollow(folder)
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, trust_remote_code=False, use_safetensors=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise InvalidInput(f"the base checkpoint cannot be loaded as a causal language model: {error}") from error
    return model


def make_engine(trained: Trained, spec: TrainingSpec, precision: str, saved: Saved | None = None) -> Any:
    """A deepspeed.DeepSpeedEngine over Trained; engine.step() moves the weights once a whole batch has gone through.

    With `saved` it goes on from a resume point.
    """
    torch.cuda.empty_cache()  # of what was shown and tried on it before
    if spec.gradient_checkpointing:
        trained.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    trained.train()
    if saved is not None and (spec.zero_stage < 3 or dist.get_rank() == 0):
        restore_weights(trained, saved)
    optimizer, how = make_optimizer(trained, spec), configuration(spec, precision)
    if spec.zero_stage == 3:
        _deal_out(trained, how)
    engine, *_ = deepspeed.initialize(model=trained, optimizer=optimizer, config=how)
    if spec.processes == 1 and not engine.zero_optimization():
        engine.enable_backward_allreduce = False  # a tenth of the time of a small model, to average with nobody
    if saved is not None:
        restore_moments(engine, saved)
    return engine


def choose_precision(spec: TrainingSpec, ledger: Ledger) -> str:
    """fp32 or bf16. "auto" is bf16 on GPUs, and on CPUs that multiply faster in it; the run keeps its first choice."""
    chosen = [spec.precision]
    if spec.precision == "auto":
        if dist.get_rank() == 0:
            chosen = [ledger.choose("precision", "bf16" if _bf16_is_faster() else "fp32")]
        dist.broadcast_object_list(chosen, device=device())
    if chosen == ["bf16"] and torch.cuda.is_available() and not torch.cuda.is_bf16_supported():
        raise InvalidInput("precision is 'bf16', which this GPU does not have; use fp32 or auto")
    return chosen[0]


def gradient_norm(engine: Any) -> float:
    """Before clipping, at the end of a batch. Under ZeRO the engine knows it only after its step."""
    if engine.zero_optimization():
        norm = engine.get_global_grad_norm()
        return float(norm) if norm is not None else 0.0
    grads = [p.grad for p in engine.module.parameters() if p.grad is not None]
    return float(torch.nn.utils.get_total_norm(grads))


def configuration(spec: TrainingSpec, precision: str) -> dict[str, Any]:
    """DeepSpeed's, made of what the spec says."""
    to_host = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    zero: dict[str, Any] = {"stage": spec.zero_stage}
    if spec.offload in ("optimizer", "parameters"):
        zero["offload_optimizer"] = to_host
    if spec.offload == "parameters":
        zero["offload_param"] = to_host
    return {
        "train_batch_size": spec.batch_size,
        "train_micro_batch_size_per_gpu": spec.micro_batch_size,
        "gradient_accumulation_steps": spec.batch_size // (spec.micro_batch_size * spec.processes),
        "gradient_clipping": spec.max_grad_norm,
        "zero_optimization": zero,
        "zero_force_ds_cpu_optimizer": False,  # torch's own runs anywhere, and needs no compiler
        "zero_allow_untested_optimizer": True,  # ours is torch's, of which it knows that
        "torch_autocast": {"enabled": precision == "bf16", "dtype": "bfloat16"},
        "steps_per_print": None,
    }


def _deal_out(trained: torch.nn.Module, how: dict[str, Any]) -> None:
    """ZeRO-3: from the first process's memory to the devices, one parameter at a time, of which each keeps its share.

    Left to itself the engine puts the whole model on every device first, where a large one has no room.
    """
    deepspeed.zero.Init(module=trained, config_dict_or_path=how, dtype=torch.float32)
    for buffer in trained.buffers():
        buffer.data = buffer.to(device())


def _hollow(folder: Path) -> PreTrainedModel:
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    with no_init_weights():
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    model.tie_weights()
    return model


def _width(model: PreTrainedModel) -> int:
    weight: Any = output_head(model).weight
    return int(weight.shape[1])


def _bf16_is_faster() -> bool:
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    ratio = _gemm_seconds(torch.float32) / _gemm_seconds(torch.bfloat16)
    log.info("bf16_probed", speedup=round(ratio, 2))
    return ratio > BF16_MUST_WIN_BY


def _gemm_seconds(dtype: torch.dtype) -> float:
    """The best of a few multiplications in the shape of a small model's layers; bounded for CPUs that emulate bf16."""
    left, right = torch.ones(256, 768, dtype=dtype), torch.ones(768, 768, dtype=dtype)
    best, deadline = float("inf"), time.perf_counter() + 0.3
    while best == float("inf") or time.perf_counter() < deadline:
        started = time.perf_counter()
        torch.mm(left, right)
        best = min(best, time.perf_counter() - started)
    return best


def host_state(module: torch.nn.Module, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Every tensor in the first process's host memory, a tied one once for its names; of other processes nothing.

    All take part: under ZeRO-3 one parameter at a time is gathered, for no device has room for all.
    """
    tensors, copies = module.state_dict(keep_vars=True), dict[int, torch.Tensor]()
    for tensor in {id(each): each for each in tensors.values()}.values():
        with deepspeed.zero.GatheredParameters([tensor]):
            if dist.get_rank() == 0:
                copies[id(tensor)] = tensor.detach().to("cpu", dtype)
    return {name: copies[id(tensor)].contiguous() for name, tensor in tensors.items()} if copies else {}


def base_dtype(folder: Path) -> torch.dtype:
    """The dtype a checkpoint is stored in, which its descendants keep."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    name = config.get("dtype") or config.get("torch_dtype") or "float32"
    found = getattr(torch, str(name), torch.float32)
    return found if isinstance(found, torch.dtype) else torch.float32
