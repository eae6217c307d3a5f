"""SafeKey: also trains the moment at which a model decides to be safe (Zhou et al., 2505.16186, section 3).

Beside the SFT loss, in the last epochs: two linear probes tell unsafe requests from safe ones by the mean hidden state
of the understanding, alone and with the request; and the key sentence is predicted with the request hidden.
Data: examples with spans `understanding` and `key` and the tag `safety` (unsafe | safe); others count for SFT
only. Metric: the mean of each term.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from lrm_safety.encoding import Encoded
from lrm_safety.errors import InvalidInput
from services.trainer.method import HEADS, MODEL, Batch, Part, Reader, Sequences, Sums, number, switch
from services.trainer.methods.sft import count_targets

OPTIONS = {
    "head_weight": "0.2",  # 0 = no safety head
    "key_weight": "0.2",  # 0 = no query-mask modelling
    "theta": "0.5",  # 0 = only request and understanding, 1 = only the understanding
    "last_epochs": "2",  # in how many of the last epochs the two count
    "mask_query": "true",  # false: the key sentence is predicted in sight of the request (the study's ablation)
    "detach": "false",  # true: in the last epochs only the probes are trained, on hidden states as they are
}
UNDERSTANDING, KEY = "understanding", "key"
LABELS = {"unsafe": 1.0, "safe": 0.0}


def make(options: Mapping[str, str]) -> "SafeKey":
    one = SafeKey(
        head_weight=number(options, "head_weight", 0, 1000),
        key_weight=number(options, "key_weight", 0, 1000),
        theta=number(options, "theta", 0, 1),
        last_epochs=number(options, "last_epochs", 0, 1000),
        masks_query=switch(options, "mask_query"),
        detaches=switch(options, "detach"),
    )
    if one.detaches and not one.head_weight:
        raise InvalidInput("training.options.detach trains the probes alone, and head_weight 0 leaves none; set one")
    return one


@dataclass(frozen=True)
class SafeKey:
    head_weight: float
    key_weight: float
    theta: float
    last_epochs: float
    masks_query: bool
    detaches: bool

    def heads(self, width: int) -> dict[str, nn.Module]:
        if not self.head_weight:
            return {}
        return {"understanding": nn.Linear(width, 1), "request_and_understanding": nn.Linear(width, 1)}

    def require(self, examples: Sequence[Encoded]) -> None:
        if not self.last_epochs:
            return
        if self.head_weight and not any(_is_probed(example) for example in examples):
            raise _missing("head_weight", self.head_weight, "a span `understanding` and the tag `safety`")
        if self.key_weight and not self.detaches and not any(_has_key(example) for example in examples):
            raise _missing("key_weight", self.key_weight, "a span `key` behind the first token of its response")

    def parts(self, examples: Sequence[Encoded], epoch: int, epochs: float) -> dict[str, Part]:
        keyed = [example for example in examples if _has_key(example)]
        probed = [example for example in examples if _is_probed(example)]
        is_late = epoch >= epochs - self.last_epochs
        parts = {"sft": Part(1.0, count_targets(examples))}
        if is_late and probed and self.head_weight:
            trains = frozenset({HEADS} if self.detaches else {MODEL, HEADS})
            parts["head"] = Part(self.head_weight, len(probed), trains)
        if is_late and self.detaches:
            if "head" in parts:
                return {"head": parts["head"]}
            return {"sft": Part(0.0, parts["sft"].count, frozenset())}  # read, and nothing trained
        if is_late and keyed and self.key_weight:
            parts["key"] = Part(self.key_weight, sum(_length(example.spans[KEY]) for example in keyed))
        return parts

    def loss(self, model: Reader, batch: Batch) -> Sums:
        """Terms in nats: sft and key summed over tokens, head over examples."""
        is_key = torch.zeros_like(batch.is_target)
        if "key" in batch.parts:
            for start, example in _starts(batch):
                if _has_key(example):
                    first, end = example.spans[KEY]
                    is_key[start + first : start + end] = True
        sees_query = not self.masks_query and "key" in batch.parts
        reading = model.read(batch.sequences, [batch.is_target, is_key] if sees_query else [batch.is_target])
        terms = {"sft": reading.totals[0]}
        if "key" in batch.parts:
            terms["key"] = reading.totals[1] if sees_query else masked_key_sum(model, batch)
        if "head" in batch.parts:
            hidden = reading.hidden.detach() if self.detaches else reading.hidden
            terms["head"] = self.head_sum(model.heads, hidden, batch)
        return Sums({name: terms[name] for name in batch.parts}, reading.correct[0])

    def head_sum(self, heads: Mapping[str, nn.Module], hidden: torch.Tensor, batch: Batch) -> torch.Tensor:
        """theta x BCE of the understanding + (1 - theta) x BCE of request and understanding, summed over examples."""
        alone, both, labels = [], [], []
        for start, example in _starts(batch):
            if _is_probed(example):
                end = start + example.spans[UNDERSTANDING][1]
                alone.append(hidden[start + example.spans[UNDERSTANDING][0] : end].mean(0))
                both.append(hidden[start:end].mean(0))
                labels.append(LABELS[example.label])
        if not labels:  # the probes take part all the same: processes must agree on what has gradients
            return sum((head(hidden[:1]).sum() for head in heads.values()), hidden.new_zeros(())) * 0.0
        wanted = hidden.new_tensor(labels)[:, None]
        pairs = (
            (self.theta, heads["understanding"], alone),
            (1 - self.theta, heads["request_and_understanding"], both),
        )
        losses = [
            weight * functional.binary_cross_entropy_with_logits(head(torch.stack(means)), wanted, reduction="sum")
            for weight, head, means in pairs
        ]
        return losses[0] + losses[1]


def masked_key_sum(model: Reader, batch: Batch) -> torch.Tensor:
    """Cross-entropy of the key sentences where nothing of the request can be seen.

    A second pass over the response alone, at its own positions and only as far as the key sentence: tokens that nobody
    may look at, and those after the last that is predicted, need no computing.
    """
    cuts = [
        (start + example.start, start + example.spans[KEY][1], example.spans[KEY])
        for start, example in _starts(batch)
        if _has_key(example)
    ]
    if not cuts:  # a pass all the same: processes gather weights together
        first = Sequences(batch.sequences.ids[:1], batch.sequences.positions[:1], (1,))
        nothing: torch.Tensor = model.read(first, [torch.zeros_like(batch.is_target[:1])]).totals[0]
        return nothing
    at = torch.cat([torch.arange(first, end) for first, end, _ in cuts]).to(batch.sequences.ids.device)
    masks = [torch.arange(first, end) >= end - _length(span) for first, end, span in cuts]
    sequences = Sequences(
        batch.sequences.ids[at], batch.sequences.positions[at], tuple(end - first for first, end, _ in cuts)
    )
    total: torch.Tensor = model.read(sequences, [torch.cat(masks).to(at.device)]).totals[0]
    return total


def _missing(option: str, weight: float, what: str) -> InvalidInput:
    return InvalidInput(
        f"training.options.{option} is {weight:g}, and no example has {what}; expected some, as the builder "
        f"safekey_mix writes them, with thinking: keep, or {option}: 0"
    )


def _starts(batch: Batch) -> list[tuple[int, Encoded]]:
    """(first token in the batch, example) of each."""
    firsts = [sum(batch.sequences.lengths[:at]) for at in range(len(batch.examples))]
    return list(zip(firsts, batch.examples, strict=True))


def _has_key(example: Encoded) -> bool:
    """There is a key sentence, and a token of the response before it."""
    first, end = example.spans.get(KEY, (0, 0))
    return end > first > example.start


def _is_probed(example: Encoded) -> bool:
    return example.label in LABELS and _length(example.spans.get(UNDERSTANDING, (0, 0))) > 0


def _length(span: tuple[int, int]) -> int:
    return span[1] - span[0]
