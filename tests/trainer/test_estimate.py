"""Memory before the start: what ZeRO, offload and checkpointing do to each part, and the refusals."""

import json
from dataclasses import replace

import pytest

from lrm_safety.errors import InvalidInput
from lrm_safety.jobs.machine import Machine
from lrm_safety.nouns import Lora, Run, RunSpec, TrainingSpec
from services.trainer import lora_worker
from services.trainer.estimate import FULL, Shape, estimate, fit, require_fit, require_sense
from services.trainer.jobs import PROCESS_GIB, worker_job
from tests.trainer.conftest import tiny_llama

SEVEN_B = Shape(7.0 * 2**30, layers=28, hidden=3584, intermediate=18944, positions=131072, vocabulary=152064)


def needs(precision="bf16", **changes):
    spec = TrainingSpec(**{"processes": 8, "micro_batch_size": 1, "offload": "none", **changes})
    return estimate(SEVEN_B, spec, precision, 8192 * spec.micro_batch_size)


def test_adam_in_fp32_takes_sixteen_bytes_a_parameter():
    found = needs(processes=1)
    assert (found["weights"], found["gradients"], found["optimizer"]) == (28, 28, 56)


@pytest.mark.parametrize(
    ("stage", "offload", "expected"),
    [
        (1, "none", (28, 28, 84 / 8)),
        (2, "none", (28, 28 / 8, 84 / 8)),
        (3, "none", (28 / 8, 28 / 8, 84 / 8)),
        (2, "optimizer", (28, 0, 0)),
        (3, "parameters", (0, 0, 0)),
    ],
)
def test_zero_shares_and_offload_moves_away(stage, offload, expected):
    found = needs(zero_stage=stage, offload=offload)
    assert (found["weights"], found["gradients"], found["optimizer"]) == expected


def test_lora_has_gradients_and_moments_of_its_updates_alone(tmp_path):
    shapes = {"hidden_size": 96, "intermediate_size": 160, "num_attention_heads": 6, "num_key_value_heads": 3}
    model = tiny_llama(**shapes, head_dim=32)
    model.config.save_pretrained(tmp_path)
    size, spec = model.num_parameters(), TrainingSpec(processes=1, offload="none", lora=Lora(rank=4))
    adapted = lora_worker.adapt(model, spec.lora, seed=0)
    updates = sum(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad)
    gib = 2**30 / 1000  # of a model a thousand times as large: the estimate is rounded to MiB
    shape = Shape.read(tmp_path, size)
    assert shape.trained(spec) == updates
    found = estimate(replace(shape, parameters=1000 * size, updated=1000 * shape.updated), spec, "fp32", 0)
    expected = [4 * (size + updates) / gib, 4 * updates / gib, 8 * updates / gib]
    assert [found[name] for name in ("weights", "gradients", "optimizer")] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("rank", "gpus", "offload", "gib"),
    [(0, 0, "none", 28), (16, 0, "none", 12.5), (1024, 0, "none", 28), (0, 1, "none", 16), (0, 1, "optimizer", 28)],
)
def test_a_job_asks_for_less_with_lora_and_where_the_state_is_on_gpus(rank, gpus, offload, gib):
    spec = TrainingSpec(processes=1, nodes=1, offload=offload, **({"lora": Lora(rank=rank)} if rank else {}))
    run = Run(id="training-1", spec=RunSpec(training=spec))
    job = worker_job(run, 2**30, 1, Machine(cpus=2, memory_gib=64, gpus=gpus))
    assert job.memory_gib == PROCESS_GIB + gib
    spec.nodes = spec.processes = 4  # of which the first loads all, and writes all in the end
    job = worker_job(
        Run(id="training-1", spec=RunSpec(training=spec)), 2**30, 1, Machine(cpus=2, memory_gib=64, gpus=gpus)
    )
    assert job.memory_gib == PROCESS_GIB + 8


def test_checkpointing_keeps_one_layer_of_activations():
    whole, kept = needs("fp32")["activations"], needs("fp32", gradient_checkpointing=True)["activations"]
    assert 28 > whole / kept > 10
    assert needs("fp32", micro_batch_size=2)["activations"] == pytest.approx(2 * whole, rel=1e-3)


def test_checkpointing_is_taken_where_it_fits_only_so():
    spec = TrainingSpec(processes=8, zero_stage=3, micro_batch_size=1, offload="none")
    plain, saving = (sum(needs(zero_stage=3, gradient_checkpointing=on).values()) for on in (False, True))
    assert saving < plain / 2

    def decide(has_gib):
        is_checkpointed, found = fit(SEVEN_B, spec, "bf16", 8192, has_gib)
        return is_checkpointed, sum(found.values())

    assert decide(plain / FULL + 0.01) == (False, plain)
    assert decide(plain / FULL - 0.01) == (True, saving)
    assert decide(saving) == (True, saving)
    with pytest.raises(InvalidInput, match="does not fit"):
        decide(saving - 0.01)
    spec.gradient_checkpointing = True
    assert decide(1000) == (True, saving)


def test_what_does_not_fit_is_refused_with_what_would_help():
    spec = TrainingSpec(processes=8, zero_stage=2, micro_batch_size=2, offload="none", max_tokens=8192)
    found = estimate(SEVEN_B, spec, "bf16", 8192)
    with pytest.raises(InvalidInput) as refused:
        require_fit(found, 80, spec)
    assert "needs at least" in str(refused.value) and "weights 28.0" in str(refused.value)
    for way in ("zero_stage: 3", "offload: optimizer", "smaller micro_batch_size", "smaller max_tokens"):
        assert way in str(refused.value)
    require_fit(found, sum(found.values()), spec)


def test_sequences_and_tokens_that_the_model_does_not_have(tmp_path):
    config = {"num_hidden_layers": 2, "hidden_size": 64, "max_position_embeddings": 512, "vocab_size": 300}
    (tmp_path / "config.json").write_text(json.dumps(config))
    shape = Shape.read(tmp_path, 1e6)
    assert (shape.layers, shape.intermediate, shape.positions) == (2, 0, 512)
    require_sense(shape, 512, 299)
    with pytest.raises(InvalidInput, match="the longest example has 513 tokens and the model reads 512"):
        require_sense(shape, 513, 299)
    with pytest.raises(InvalidInput, match="writes token 300 and the model has 300"):
        require_sense(shape, 512, 300)
