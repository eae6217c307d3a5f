"""benchmarks/training_gpu.py: its shapes are the published ones, and what needs GPUs runs here on a tiny one."""

import csv
import json
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

from benchmarks.contestants import ours
from benchmarks.training_gpu import LENGTHS, ROTATION, SHAPES, compare, keep, make_task, write_model
from lrm_safety.nouns import TrainingSpec

NUMBERS = ("tokens_per_s", "tokens_per_s_range", "mfu", "mfu_of_products", "peak_gib")


def too_large(task, pipe):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 80 GiB.")


@pytest.mark.parametrize(("shape", "parameters"), [("qwen2-1.5b", 1_543_714_304), ("qwen2-7b", 7_615_616_512)])
def test_a_shape_is_the_published_models(shape, parameters):
    with torch.device("meta"):
        model = Qwen2ForCausalLM(Qwen2Config(**SHAPES[shape], rope_parameters=ROTATION))
    assert sum(each.numel() for each in model.parameters()) == parameters
    assert model.config.rope_parameters["rope_theta"] == 1e6


def test_a_step_is_8k_tokens():
    assert sum(LENGTHS) == 8192


def test_what_is_written_layer_by_layer_loads_whole(tmp_path):
    write_model("tiny", tmp_path)
    model, told = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(told.values())
    layer = model.model.layers[1]
    assert float(layer.mlp.up_proj.weight.detach().std()) == pytest.approx(0.02, rel=0.1)
    assert bool((layer.input_layernorm.weight == 1).all())
    assert bool((layer.self_attn.q_proj.bias == 0).all())


@pytest.mark.long
def test_all_take_their_steps_on_a_tiny_shape(tmp_path):
    pytest.importorskip("trl", reason="trl is of the dev extra")
    rows = compare("tiny", make_task("tiny", tmp_path, TrainingSpec(epochs=3)), 1)
    assert [(row.contestant, row.outcome) for row in rows] == [
        (name, "measured") for name in ("ours", "trl", "trl packed")
    ]
    assert all(float(row.tokens_per_s) > 0 and float(row.mfu) > 0 for row in rows)
    assert {row.precision for row in rows} == {"bf16"}
    keep(rows, tmp_path / "table.csv")
    keep([replace(rows[0], way="another")], tmp_path / "table.csv")
    kept = list(csv.DictReader((tmp_path / "table.csv").open()))
    assert [(row["contestant"], row["way"]) for row in kept] == [
        ("trl", rows[1].way),
        ("trl packed", rows[2].way),
        ("ours", "another"),
    ]


@pytest.mark.long
def test_what_does_not_fit_has_no_number(tmp_path):
    """Ours is reckoned from the shape, before a weight is loaded; TRL runs into the wall."""
    task = make_task("tiny", tmp_path, TrainingSpec(epochs=3))
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "intermediate_size": 10**9}))
    rows = compare("tiny", task, 1, {"ours": ours, "trl": too_large})
    assert "does not fit" in rows[0].outcome and "more processes, offload: optimizer" in rows[0].outcome
    assert rows[1].outcome == "does not fit: CUDA out of memory"
    assert not any(getattr(row, name) for row in rows for name in NUMBERS)
