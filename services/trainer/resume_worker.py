"""Saves and restores the state of a training, sharded, while it goes on, for any number of processes and ZeRO stage.

What is saved are fragments: fp32 weights and Adam's moments of a run of elements of one parameter, under the
parameter's name and the place of its first element. Each process writes those it holds; one that resumes takes from
all pieces what it needs, so 8 processes under ZeRO-3 may go on as 2 under ZeRO-1. Nothing else has to be kept: the
examples, learning rate and random numbers of a step follow from the seed and the step's number.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import safe_open
from safetensors.torch import save

from lrm_safety import observe
from lrm_safety.errors import Corrupt
from services.trainer.resume import ResumePoints

log = observe.logger(__name__)
PIECE_ELEMENTS = 64 << 20  # 256 MiB of fp32
MOMENTS = ("exp_avg", "exp_avg_sq")
GIVE_UP_S = 60.0  # when an attempt ends in an error, for the save that is under way


@dataclass(frozen=True)
class Fragment:
    """`size` elements of a parameter from `start` on: elements `at`… of a flat tensor that the optimizer steps."""

    name: str
    start: int
    size: int
    flat: torch.Tensor
    at: int

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """The fragment's elements of the flat tensor, or of a moment beside it; a view."""
        return tensor.detach().view(-1).narrow(0, self.at, self.size)


@dataclass
class Saver:
    """Writes resume points from a thread. Training waits only for the copy to host memory, and for the save before."""

    engine: Any  # deepspeed.DeepSpeedEngine
    points: ResumePoints
    keep: int
    _thread: threading.Thread | None = None
    _error: Exception | None = None
    _is_given_up: threading.Event = field(default_factory=threading.Event)

    def save(self, done: int) -> None:
        """Raises what the save before ended with."""
        began = time.perf_counter()
        self.settle()
        pieces = list(_pieces(snapshot(self.engine)))
        self._thread = threading.Thread(target=self._write, args=(done, pieces), daemon=True)
        self._thread.start()
        log.info("resume_point_begun", run=self.points.run, step=done, stood_s=round(time.perf_counter() - began, 3))

    def settle(self) -> None:
        """Waits for the save that is under way. Raises what it ended with."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Gives the save under way some time to end well: the attempt ends in an error of its own."""
        if self._thread is not None:
            self._thread.join(GIVE_UP_S)
            self._is_given_up.set()

    def _write(self, done: int, pieces: list[dict[str, torch.Tensor]]) -> None:
        rank = dist.get_rank()
        try:
            digests = {}
            for number in range(len(pieces)):
                name, digest = self.points.write(done, rank, number, save(pieces[number]))
                digests[name] = digest
                pieces[number].clear()  # its memory is free again
            self.points.write_share(done, rank, digests)
            if rank == 0:
                self.points.complete(done, dist.get_world_size(), self.keep, self._is_given_up.is_set)
        except Exception as error:  # noqa: BLE001 - a thread's edge: raised by the next save, or settle
            self._error = error


class Saved:
    """The pieces of a resume point on this machine's disk."""

    def __init__(self, paths: list[Path]) -> None:
        files: list[Any] = [safe_open(path, framework="pt") for path in paths]
        self._found: dict[tuple[str, str], list[tuple[int, Any, str]]] = {}
        for file in files:
            for key in file.keys():  # noqa: SIM118
                kind, name, start = key.split("|")
                self._found.setdefault((kind, name), []).append((int(start), file, key))

    def steps(self, name: str) -> float:
        """How often the parameter was stepped; 0 for one that never was."""
        first = next(iter(self._found.get(("step", name), [])), None)
        return float(first[1].get_tensor(first[2])) if first else 0.0

    def read(self, kind: str, name: str, start: int, out: torch.Tensor) -> None:
        """Fills `out`, one-dimensional, with the elements from `start` on. Raises Corrupt where some are missing."""
        missing = out.numel()
        for first, file, key in self._found.get((kind, name), []):
            piece = file.get_slice(key)
            low, high = max(start, first), min(start + out.numel(), first + piece.get_shape()[0])
            if low < high:
                out[low - start : high - start] = piece[low - first : high - first].to(out.device)
                missing -= high - low
        if missing:
            raise Corrupt(f"the resume point lacks {missing} elements of {name}; ask for the run under another seed")


def snapshot(engine: Any) -> dict[str, torch.Tensor]:
    """Copies in host memory of what this process has to write, by `kind|parameter|first element`.

    Without ZeRO every process holds everything, and writes its share of the parameters.
    """
    state, copies = _optimizer(engine).state, {}
    held = list(_fragments(engine))
    for fragment in held if engine.zero_optimization() else held[dist.get_rank() :: dist.get_world_size()]:
        tensors = {"weight": fragment.of(fragment.flat)}
        tensors |= {kind: fragment.of(state[fragment.flat][kind]) for kind in MOMENTS if state.get(fragment.flat)}
        for kind, tensor in tensors.items():
            for start in range(0, fragment.size, PIECE_ELEMENTS):
                part = tensor[start : start + PIECE_ELEMENTS]
                copies[f"{kind}|{fragment.name}|{fragment.start + start}"] = part.to("cpu", copy=True)
        if state.get(fragment.flat):
            steps = torch.tensor([float(state[fragment.flat]["step"])])
            copies[f"step|{fragment.name}|{fragment.start}"] = steps
    return copies


def restore_weights(module: torch.nn.Module, saved: Saved) -> None:
    """Before the engine is made, which takes its shares from the module."""
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            saved.read("weight", name, 0, parameter.detach().view(-1))


def restore_moments(engine: Any, saved: Saved) -> None:
    """Into the optimizer of a new engine, whichever way that one shares them."""
    state = _optimizer(engine).state
    for fragment in _fragments(engine):
        steps, flat = saved.steps(fragment.name), fragment.flat
        if not steps:
            continue
        if not state.get(flat):
            state[flat] = {kind: torch.zeros_like(flat) for kind in MOMENTS}
            state[flat]["step"] = torch.zeros((), dtype=torch.float32, device=flat.device)
        for kind in MOMENTS:
            saved.read(kind, fragment.name, fragment.start, fragment.of(state[flat][kind]))
        state[flat]["step"].fill_(steps)


def _pieces(copies: dict[str, torch.Tensor]) -> Iterator[dict[str, torch.Tensor]]:
    """Files of bounded size; one, perhaps empty, at least."""
    piece: dict[str, torch.Tensor] = {}
    size = 0
    for key, tensor in copies.items():
        if piece and size + tensor.numel() > PIECE_ELEMENTS:
            yield piece
            piece, size = {}, 0
        piece[key] = tensor
        size += tensor.numel()
    yield piece


def _fragments(engine: Any) -> Iterator[Fragment]:
    """What this process's optimizer steps, parameter by parameter."""
    stage = engine.zero_optimization_stage()
    for name, parameter in engine.module.named_parameters():
        if not parameter.requires_grad:
            continue
        if stage == 0:
            yield Fragment(name, 0, parameter.numel(), parameter, 0)
        elif stage == 3:
            yield from _of_partition(engine.optimizer, name, parameter)
        elif parameter._hp_mapping is not None:
            mapping = parameter._hp_mapping
            here, there = mapping.hp_fragment_address, mapping.lp_fragment_address
            flat = engine.optimizer.single_partition_of_fp32_groups[mapping.param_group_index]
            yield Fragment(name, there.start, here.numel, flat, here.start)


def _of_partition(zero: Any, name: str, parameter: Any) -> Iterator[Fragment]:
    """ZeRO-3 gives each process an equal part of every parameter; the last ones are padded."""
    group, at, size = zero.grad_position[zero.get_param_id(parameter)]
    start = dist.get_rank() * size
    size = min(size, parameter.ds_numel - start)
    if size > 0:
        yield Fragment(name, start, size, zero.fp32_partitioned_groups_flat[group], at)


def _optimizer(engine: Any) -> torch.optim.Optimizer:
    """The torch optimizer; ZeRO wraps it."""
    optimizer: torch.optim.Optimizer = getattr(engine.optimizer, "optimizer", engine.optimizer)
    return optimizer
