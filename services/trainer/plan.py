"""Which examples each optimizer step sees: drawn by the seed, so a step's number is all that a resume needs."""

import math
import random
from collections.abc import Sequence
from functools import lru_cache

from lrm_safety.nouns import TrainingSpec

Micro = list[int]  # indices of the examples of one micro-batch


class Plan:
    """A fresh shuffle each epoch, cut into steps of batch_size; the last step runs over into the next shuffle.

    Only inside a step are examples sorted by length, so that a micro-batch pads little and chance is left alone.
    """

    def __init__(self, lengths: Sequence[int], spec: TrainingSpec) -> None:
        self._lengths, self._spec = lengths, spec
        self.steps = max(1, math.ceil(round(len(lengths) * spec.epochs, 6) / spec.batch_size))
        self.warmup = math.ceil(spec.warmup_ratio * self.steps)
        self._shuffle = lru_cache(maxsize=2)(self._draw)

    def micros(self, step: int, rank: int) -> list[Micro]:
        """The micro-batches that one process runs in a step (0-based)."""
        size = self._spec.micro_batch_size
        chosen = sorted(self.examples(step), key=lambda index: -self._lengths[index])
        pieces = [chosen[at : at + size] for at in range(0, len(chosen), size)]
        return pieces[rank :: self._spec.processes]

    def examples(self, step: int) -> list[int]:
        """What all processes together see in a step."""
        first = step * self._spec.batch_size
        return [self._at(position) for position in range(first, first + self._spec.batch_size)]

    def epoch(self, step: int) -> float:
        """Epochs seen once this step is done."""
        return (step + 1) * self._spec.batch_size / len(self._lengths)

    def saves_after(self, step: int) -> bool:
        """A resume point follows this step: every save_every_steps, or at each epoch's end; never after the last."""
        if step + 1 >= self.steps:
            return False
        if self._spec.save_every_steps:
            return (step + 1) % self._spec.save_every_steps == 0
        return int(self.epoch(step)) > int(self.epoch(step - 1))

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then half a cosine down to zero."""
        if step < self.warmup:
            return self._spec.learning_rate * (step + 1) / self.warmup
        share = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self._spec.learning_rate * 0.5 * (1 + math.cos(math.pi * share))

    def _at(self, position: int) -> int:
        epoch, index = divmod(position, len(self._lengths))
        return self._shuffle(epoch)[index]

    def _draw(self, epoch: int) -> list[int]:
        order = list(range(len(self._lengths)))
        random.Random(f"{self._spec.seed}/{epoch}").shuffle(order)
        return order
