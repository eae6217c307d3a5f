"""One optimizer step: micro-batches through the engine, means over what the whole step counts, one row of metrics."""

import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
import torch.distributed as dist

from lrm_safety.encoding import Encoded
from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import TrainingMetrics, TrainingSpec
from services.trainer import engine_worker
from services.trainer.method import Batch, Objective, Part, Sequences
from services.trainer.optimizer_worker import choose
from services.trainer.plan import Plan

Prepared = tuple[list[Encoded], list[Batch]]  # what all processes see in a step, and this one's share


class Stepper:
    """Takes the steps of a plan: examples, order and random numbers of each depend on the seed and its number alone.

    While a step is computed a thread prepares what the next one reads.
    """

    def __init__(self, engine: Any, objective: Objective, plan: Plan, examples: Sequence[Encoded]) -> None:
        self._engine, self._objective, self._plan, self._encoded = engine, objective, plan, examples
        self._spec: TrainingSpec = plan.spec
        self._rank, self._device = dist.get_rank(), engine_worker.device()
        self._thread, self._coming = ThreadPoolExecutor(1), dict[int, Future[Prepared]]()

    def take(self, step: int, is_asked_to_stop: bool) -> tuple[TrainingMetrics, bool]:
        """(what it came to, whether any process was asked to stop): over batch_size examples of all processes.

        Every term of the loss is a mean over all that the step counts. Raises InvalidInput when a number is not finite.
        """
        started = time.perf_counter()
        torch.manual_seed(self._plan.seed(step, self._rank))
        rate = self._plan.learning_rate(step)
        seen, batches = self._read(step)
        parts = batches[0].parts
        choose(self._engine, {of for part in parts.values() for of in part.trains}, rate)
        sums, norm = self._run(step, batches)
        stops = torch.tensor([float(is_asked_to_stop)], device=self._device)
        sums = torch.cat([sums, stops])
        dist.all_reduce(sums)
        *totals, correct, stops_asked = sums.tolist()
        row = TrainingMetrics(step=step + 1, epoch=self._plan.epoch(step), learning_rate=rate, grad_norm=norm)
        means = {name: total / part.count for (name, part), total in zip(parts.items(), totals, strict=True)}
        row.loss = sum(part.weight * means[name] for name, part in parts.items())
        row.token_accuracy = correct / sum(len(example.ids) - example.start for example in seen)
        row.terms.update(means if len(means) > 1 else {})
        row.tokens_per_s = sum(len(example.ids) for example in seen) / (time.perf_counter() - started)
        return row, stops_asked > 0

    def _read(self, step: int) -> Prepared:
        now = self._coming.pop(step, None) or self._thread.submit(self._prepare, step)
        if step + 1 < self._plan.steps:
            self._coming[step + 1] = self._thread.submit(self._prepare, step + 1)
        return now.result()

    def _prepare(self, step: int) -> Prepared:
        seen = [self._encoded[index] for index in self._plan.examples(step)]
        parts = self._objective.parts(seen, int(self._plan.epoch(step - 1)), self._spec.epochs)
        micros = self._plan.micros(step, self._rank, self._engine.module.way.is_packed)
        chosen = [[self._encoded[index] for index in micro] for micro in micros]
        return seen, [make_batch(examples, parts, self._device) for examples in chosen]

    def _run(self, step: int, batches: Sequence[Batch]) -> tuple[torch.Tensor, float]:
        """(this process's sums: the terms, then correct tokens; norm of the gradient). The weights have moved."""
        sums, norm = torch.zeros(len(batches[0].parts) + 1, device=self._device), 0.0
        for number, batch in enumerate(batches, start=1):
            objective, found = self._engine(batch)
            sums += found
            self._require_finite(objective.item(), "loss", step)
            self._engine.backward(
                objective * (len(batches) * self._spec.processes)
            )  # the engine takes the mean of these
            norm = self._advance(step, is_last=number == len(batches))
        return sums, norm

    def _advance(self, step: int, is_last: bool) -> float:
        """Tells the engine that a micro-batch is through; with the last one the weights move. The gradient's norm."""
        early = is_last and not self._engine.zero_optimization()
        norm = engine_worker.gradient_norm(self._engine) if early else 0.0
        self._require_finite(norm, "gradient", step)
        self._engine.step()
        if is_last and not early:
            norm = engine_worker.gradient_norm(self._engine)
            self._require_finite(norm, "gradient", step)
        return norm

    def _require_finite(self, value: float, what: str, step: int) -> None:
        if not math.isfinite(value):
            raise InvalidInput(
                f"the {what} is not finite at step {step + 1} of {self._plan.steps}; lower learning_rate, or set "
                "precision: fp32"
            )


def make_batch(examples: Sequence[Encoded], parts: Mapping[str, Part], device: torch.device) -> Batch:
    """The examples one after another; see method.Batch."""
    lengths = tuple(len(example.ids) for example in examples)
    ids = torch.tensor([token for example in examples for token in example.ids], device=device)
    positions = torch.cat([torch.arange(length) for length in lengths])
    starts = torch.tensor([example.start for example in examples]).repeat_interleave(torch.tensor(lengths))
    sequences = Sequences(ids, positions.to(device), lengths)
    return Batch(sequences, tuple(examples), (positions >= starts).to(device), parts)
