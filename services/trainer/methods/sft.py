"""Supervised fine-tuning: cross-entropy on the assistant's tokens and no others.

What every study of safety fine-tuning of reasoning models starts from (STAR-1, Safety Tax, SafeKey's L_SFT).
Data: any dataset. Metric: mean loss and accuracy per trained token.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from lrm_safety.encoding import Encoded
from services.trainer.method import Batch, Part, Reader, Sums

OPTIONS: dict[str, str] = {}


def make(options: Mapping[str, str]) -> "Sft":
    return Sft()


class Sft:
    def heads(self, width: int) -> dict[str, Any]:
        return {}

    def require(self, examples: Sequence[Encoded]) -> None:
        """Any example will do."""

    def parts(self, examples: Sequence[Encoded], epoch: int, epochs: float) -> dict[str, Part]:
        return {"sft": Part(1.0, count_targets(examples))}

    def loss(self, model: Reader, batch: Batch) -> Sums:
        reading = model.read(batch.sequences, [batch.is_target])
        return Sums({"sft": reading.totals[0]}, reading.correct[0])


def count_targets(examples: Sequence[Encoded]) -> int:
    return sum(len(example.ids) - example.start for example in examples)
