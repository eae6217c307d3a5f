"""Which examples each optimizer step sees: drawn by the seed, so a step's number is all that a resume needs."""

import heapq
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import TrainingSpec

Micro = list[int]  # indices of the examples of one micro-batch


@dataclass(frozen=True)
class Group:
    """Examples that are shuffled among themselves, and the steps of a round that are theirs."""

    members: list[int]
    steps: range


class Plan:
    """A fresh shuffle each epoch, cut into steps of batch_size; the last step runs over into the next shuffle, where
    published scripts leave its examples out.

    With turns (alternating stages, as in Lisa, 2405.18641) each part of the dataset has its own shuffle, and an epoch
    is as many examples as there are in all. Only inside a step are examples arranged by length, so that micro-batches
    take the same time and chance is left alone.
    """

    def __init__(self, lengths: Sequence[int], spec: TrainingSpec, parts: Sequence[str] = ()) -> None:
        """`lengths` in tokens; `parts` are the examples' parts of the dataset, needed where spec has turns.

        Raises InvalidInput for a turn of a part that has no examples.
        """
        self._lengths, self.spec = lengths, spec
        self.steps = max(1, math.ceil(round(len(lengths) * spec.epochs, 6) / spec.batch_size))
        self.warmup = math.ceil(spec.warmup_ratio * self.steps)
        self._groups = _groups(parts, spec) if spec.turns else [Group(list(range(len(lengths))), range(1))]
        self._shuffle = lru_cache(maxsize=2 * len(self._groups))(self._draw)

    def micros(self, step: int, rank: int, is_packed: bool) -> list[Micro]:
        """The micro-batches that one process runs in a step (0-based).

        Packed ones hold about as many tokens each; padded ones as many examples, of like lengths.
        """
        size, chosen = self.spec.micro_batch_size, self.examples(step)
        chosen.sort(key=lambda index: -self._lengths[index])
        if is_packed:
            pieces = self._balanced(chosen, len(chosen) // size)
        else:
            pieces = [chosen[at : at + size] for at in range(0, len(chosen), size)]
        return pieces[rank :: self.spec.processes]

    def examples(self, step: int) -> list[int]:
        """What all processes together see in a step."""
        number, place = self._turn(step)
        first = place * self.spec.batch_size
        return [self._at(number, position) for position in range(first, first + self.spec.batch_size)]

    def seed(self, step: int, rank: int) -> int:
        """Of the random numbers that one process draws in a step; in torch's range."""
        return (((self.spec.seed << 32) + step) * self.spec.processes + rank) % 2**63

    def epoch(self, step: int) -> float:
        """Epochs seen once this step is done."""
        return (step + 1) * self.spec.batch_size / len(self._lengths)

    def saves_after(self, step: int) -> bool:
        """A resume point follows this step: every save_every_steps, or at each epoch's end; never after the last."""
        if step + 1 >= self.steps:
            return False
        if self.spec.save_every_steps:
            return (step + 1) % self.spec.save_every_steps == 0
        return int(self.epoch(step)) > int(self.epoch(step - 1))

    def learning_rate(self, step: int) -> float:
        """Linear warm-up from zero, then half a cosine down to zero: transformers' get_cosine_schedule_with_warmup."""
        if step < self.warmup:
            return self.spec.learning_rate * step / self.warmup
        share = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.spec.learning_rate * 0.5 * (1 + math.cos(math.pi * share))

    def _balanced(self, chosen: list[int], count: int) -> list[Micro]:
        """The longest first, each into the emptiest; then the fullest first. None stays empty."""
        pieces: list[Micro] = [[] for _ in range(count)]
        loads = [(0, number) for number in range(count)]
        for index in chosen:
            load, number = heapq.heappop(loads)
            pieces[number].append(index)
            heapq.heappush(loads, (load + self._lengths[index], number))
        return [pieces[number] for _, number in sorted(loads, key=lambda load: (-load[0], load[1]))]

    def _turn(self, step: int) -> tuple[int, int]:
        """(number of the group whose step it is, how many steps that group has had before)."""
        rounds, place = divmod(step, self._groups[-1].steps.stop)
        number = next(at for at, group in enumerate(self._groups) if place in group.steps)
        mine = self._groups[number].steps
        return number, rounds * len(mine) + place - mine.start

    def _at(self, group: int, position: int) -> int:
        epoch, index = divmod(position, len(self._groups[group].members))
        return self._shuffle(group, epoch)[index]

    def _draw(self, group: int, epoch: int) -> list[int]:
        order = list(self._groups[group].members)
        random.Random(f"{self.spec.seed}/{epoch}{f'/{group}' if group else ''}").shuffle(order)
        return order


def _groups(parts: Sequence[str], spec: TrainingSpec) -> list[Group]:
    groups, at = [], 0
    for turn in spec.turns:
        members = [index for index, part in enumerate(parts) if part == turn.part]
        if not members:
            raise InvalidInput(
                f"training.turns names the part {turn.part!r}, of which {spec.dataset} has no examples that fit; "
                f"it has: {', '.join(sorted(set(parts)))}"
            )
        groups.append(Group(members, range(at, at + turn.steps)))
        at += turn.steps
    return groups
