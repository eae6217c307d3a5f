"""What a TrainingSpec may ask: defaults for what was left out, ranges for what was not, errors that name both."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from lrm_safety.chat import THINKING_MODES, families
from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import AnalysisSpec, Dataset, TrainingSpec

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
PRECISIONS = ("auto", "fp32", "bf16")
OFFLOADS = ("none", "optimizer", "parameters")
ANALYSES = ("attention", "divergence")
LEGACY = {  # published mistakes, to reproduce the studies that made them
    "whole_conversation_loss": "the prompt is trained too (LRM-Safety-Study)",
    "right_truncation": "examples that are too long lose their end, and with it the answer (LRM-Safety-Study)",
    "left_truncation": "examples that are too long lose their beginning (STAR-1, SafeKey)",
    "untrained_end_of_turn": "the end of turn is not trained, as where padding is the end of turn (LRM-Safety-Study)",
}
MICRO_BATCH = 4
DEFAULTS = TrainingSpec(
    method="sft",
    epochs=1,
    learning_rate=1e-5,
    batch_size=8,
    max_tokens=1024,
    precision="auto",
    thinking="keep",
    processes=1,
    nodes=1,
    offload="none",
    keep_resume_points=1,
    adam_beta2=0.95,
)


@dataclass(frozen=True)
class Range:
    allowed: str  # in words, for the error
    holds: Callable[[float], bool]


RANGES = {
    "epochs": Range("above 0, at most 1000", lambda value: 0 < value <= 1000),
    "learning_rate": Range("above 0, at most 1", lambda value: 0 < value <= 1),
    "batch_size": Range("1 to 65536", lambda value: 1 <= value <= 65536),
    "micro_batch_size": Range("1 to 65536", lambda value: 1 <= value <= 65536),
    "max_tokens": Range("8 to 1048576", lambda value: 8 <= value <= 1 << 20),
    "warmup_ratio": Range("0 to 1", lambda value: 0 <= value <= 1),
    "weight_decay": Range("0 to 1", lambda value: 0 <= value <= 1),
    "max_grad_norm": Range("0 (no clipping) to 1e6", lambda value: 0 <= value <= 1e6),
    "seed": Range("0 or more", lambda value: value >= 0),
    "zero_stage": Range("0 to 3", lambda value: 0 <= value <= 3),
    "save_every_steps": Range("0 (once an epoch) or more", lambda value: value >= 0),
    "keep_resume_points": Range("1 to 1000", lambda value: 1 <= value <= 1000),
    "adam_beta2": Range("0 to 1, below 1", lambda value: 0 <= value < 1),
    "processes": Range("1 to 1024", lambda value: 1 <= value <= 1024),
    "nodes": Range("1 to 128", lambda value: 1 <= value <= 128),
}
CHOICES = {"precision": PRECISIONS, "thinking": THINKING_MODES, "offload": OFFLOADS, "template": ("", *families())}
STAGE_FOR_OFFLOAD = {"none": 0, "optimizer": 1, "parameters": 3}


def resolve(spec: TrainingSpec) -> TrainingSpec:
    """The same spec with every default written down. Raises InvalidInput with field, value and what is allowed."""
    done = TrainingSpec()
    done.CopyFrom(DEFAULTS)
    done.MergeFrom(spec)
    done.micro_batch_size = done.micro_batch_size or _micro_batch(done)
    check_name(done.name, "name")
    for field, meaning in (("base", "a checkpoint"), ("dataset", "a dataset")):
        if not getattr(done, field):
            raise InvalidInput(f"training.{field} is missing; expected {meaning}: name or name@digest")
    for field, choices in CHOICES.items():
        if getattr(done, field) not in choices:
            raise _refusal(field, getattr(done, field), f"one of {', '.join(filter(None, choices))}")
    for field, span in RANGES.items():
        if not span.holds(getattr(done, field)):
            raise _refusal(field, getattr(done, field), span.allowed)
    _check_legacy(done)
    if done.zero_stage < STAGE_FOR_OFFLOAD[done.offload]:
        allowed = f"{STAGE_FOR_OFFLOAD[done.offload]} or more with offload: {done.offload}"
        raise _refusal("zero_stage", done.zero_stage, allowed)
    if done.processes % done.nodes:
        raise _refusal("processes", done.processes, f"a multiple of nodes = {done.nodes}")
    if done.batch_size % (done.micro_batch_size * done.processes):
        allowed = f"a multiple of micro_batch_size x processes = {done.micro_batch_size} x {done.processes}"
        raise _refusal("batch_size", done.batch_size, allowed)
    _check_lora_and_turns(done)
    return done


def resolve_analysis(spec: AnalysisSpec) -> AnalysisSpec:
    """The same spec with its default written down. Raises InvalidInput."""
    done = AnalysisSpec(max_tokens=2048)
    done.MergeFrom(spec)
    if done.analysis not in ANALYSES:
        raise InvalidInput(f"analysis is {done.analysis!r}; expected one of {', '.join(ANALYSES)}")
    if (done.analysis == "divergence") != bool(done.base):
        raise InvalidInput(
            f"analysis {done.analysis}: base is {done.base!r}; divergence compares with one, no other does"
        )
    if not RANGES["max_tokens"].holds(done.max_tokens) or done.limit < 0:
        raise InvalidInput("an analysis takes max_tokens of 8 to 1048576 and a limit of 0 (all) or more")
    return done


def check_name(name: str, field: str) -> None:
    if not NAME.fullmatch(name):
        raise InvalidInput(f"{field} is {name!r}; expected 1 to 63 letters, digits, '.', '_' or '-', not '._-' first")


def check_answers(dataset: Dataset) -> None:
    if dataset.unanswered:
        raise InvalidInput(
            f"dataset {dataset.name}: {dataset.unanswered:,} of {dataset.examples:,} examples have no answer to train "
            "on; expected one on each: build it with a builder that writes or reads answers (`lrm list builders`)"
        )


def _check_legacy(spec: TrainingSpec) -> None:
    for switch in spec.legacy:
        if switch not in LEGACY:
            raise _refusal("legacy", switch, f"some of {', '.join(LEGACY)}")
    if spec.method == "safekey" and "whole_conversation_loss" in spec.legacy:
        raise InvalidInput(
            "training.legacy has whole_conversation_loss, which trains the request that method safekey hides from the "
            "key sentence; leave out the switch, or set method: sft"
        )


def _check_lora_and_turns(spec: TrainingSpec) -> None:
    if spec.HasField("lora") and not 1 <= spec.lora.rank <= 1024:
        raise _refusal("lora.rank", spec.lora.rank, "1 to 1024")
    if not 0 <= spec.lora.dropout < 1:
        raise _refusal("lora.dropout", spec.lora.dropout, "0 to 1, below 1")
    for turn in spec.turns:
        if turn.steps < 1:
            raise _refusal(f"turns: steps of {turn.part}", turn.steps, "1 or more")


def _micro_batch(spec: TrainingSpec) -> int:
    """The largest size up to MICRO_BATCH that divides each process's share of the batch."""
    share = max(1, spec.batch_size // max(1, spec.processes))
    return max(size for size in range(1, MICRO_BATCH + 1) if share % size == 0)


def _refusal(field: str, value: object, allowed: str) -> InvalidInput:
    return InvalidInput(f"training.{field} is {value!r}; expected {allowed}")
