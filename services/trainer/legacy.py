"""Published mistakes, repeated on request to reproduce the studies that made them: see LEGACY in limits.py."""

from dataclasses import replace

from lrm_safety.encoding import Encoded
from lrm_safety.nouns import TrainingSpec


def repeat(example: Encoded, spec: TrainingSpec, end: int) -> Encoded | None:
    """The example as the mistakes leave it; None when no trained token is left. `end`: tokens of the end of turn."""
    if "untrained_end_of_turn" in spec.legacy:  # the last tokens: not to read them is not to train them
        example = _beginning(example, len(example.ids) - end)
    if "whole_conversation_loss" in spec.legacy:
        example = replace(example, start=1)
    if "right_truncation" in spec.legacy:
        example = _beginning(example, spec.max_tokens)
    if "left_truncation" in spec.legacy:
        example = _without_beginning(example, max(0, len(example.ids) - spec.max_tokens))
    return example if example.start < len(example.ids) else None


def _beginning(example: Encoded, size: int) -> Encoded:
    """A span whose end is gone is gone."""
    spans = {name: (first, end) for name, (first, end) in example.spans.items() if end <= size}
    return replace(example, ids=example.ids[:size], spans=spans)


def _without_beginning(example: Encoded, cut: int) -> Encoded:
    """Spans move along; one whose beginning is gone is gone."""
    spans = {name: (first - cut, end - cut) for name, (first, end) in example.spans.items() if first >= cut}
    return replace(example, ids=example.ids[cut:], start=max(1, example.start - cut), spans=spans)
