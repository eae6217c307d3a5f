"""A TrainingSpec at the edge: what is filled in, what is refused, and what the refusal says."""

import math

import pytest

from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import Lora, TrainingSpec, Turn
from services.trainer.limits import RANGES, resolve


def spec(**changes):
    return TrainingSpec(**{"name": "tuned", "base": "b", "dataset": "d", **changes})


def test_defaults_are_written_down():
    done = resolve(spec())
    assert (done.method, done.epochs, done.batch_size, done.micro_batch_size) == ("sft", 1, 8, 4)
    assert (done.precision, done.thinking, done.processes, done.max_tokens) == ("auto", "keep", 1, 1024)
    assert resolve(spec(batch_size=6)).micro_batch_size == 3
    assert resolve(spec(batch_size=8, processes=4)).micro_batch_size == 2
    assert resolve(done) == done


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", -1),
        ("epochs", 0),
        ("learning_rate", 0),
        ("batch_size", 0),
        ("max_tokens", 0),
        ("processes", 0),
        ("nodes", 0),
        ("epochs", math.nan),
        ("learning_rate", 2.0),
        ("learning_rate", math.inf),
        ("batch_size", -8),
        ("max_tokens", 4),
        ("warmup_ratio", 1.5),
        ("weight_decay", -0.1),
        ("max_grad_norm", -1),
        ("seed", -1),
        ("zero_stage", 4),
        ("save_every_steps", -1),
        ("processes", 2000),
        ("keep_resume_points", -1),
        ("adam_beta2", 1.0),
    ],
)
def test_ranges(field, value):
    with pytest.raises(InvalidInput) as refused:
        resolve(spec(**{field: value}))
    assert f"training.{field} is {value!r}" in str(refused.value)
    assert RANGES[field].allowed in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"precision": "fp8"}, "auto, fp32, bf16"),
        ({"thinking": "some"}, "keep, empty, none"),
        ({"offload": "disk"}, "none, optimizer, parameters"),
        ({"offload": "optimizer"}, "zero_stage is 0; expected 1 or more with offload: optimizer"),
        ({"offload": "parameters", "zero_stage": 2}, "expected 3 or more"),
        ({"template": "r1"}, "one of r1_distill_qwen"),
        ({"legacy": ["left_truncation", "no_eos"]}, "legacy is 'no_eos'; expected some of whole_conversation_loss"),
        ({"legacy": ["whole_conversation_loss"], "method": "safekey"}, "trains the request that method safekey hides"),
        ({"base": ""}, "training.base is missing"),
        ({"dataset": ""}, "training.dataset is missing"),
        ({"name": "../up"}, "letters, digits"),
        ({"name": ""}, "letters, digits"),
        ({"batch_size": 8, "micro_batch_size": 3}, "a multiple of"),
        ({"batch_size": 2, "processes": 4}, "a multiple of"),
        ({"lora": Lora(alpha=8)}, r"training.lora.rank is 0; expected 1 to 1024"),
        ({"lora": Lora(rank=8, dropout=1)}, "lora.dropout is 1.0"),
        ({"turns": [Turn(part="safety")]}, "turns: steps of safety is 0; expected 1 or more"),
    ],
)
def test_choices_and_combinations(changes, says):
    with pytest.raises(InvalidInput, match=says):
        resolve(spec(**changes))
