"""What is written is what was trained, in the base's dtype, each matrix once; and what is made sure of before."""

import json

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from services.trainer import engine_worker, export_worker
from tests.trainer.methods.made import SHAPE


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_that_was_trained_in_fp32_goes_back_to_its_dtype(tmp_path, monkeypatch, dtype):
    model = LlamaForCausalLM(LlamaConfig(**SHAPE, tie_word_embeddings=True))
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    state = engine_worker.host_state(model, dtype)
    export_worker.write_folder(model, state, tmp_path / "like", tmp_path / "out")
    written = load_file(tmp_path / "out" / "model.safetensors")
    assert "lm_head.weight" not in written
    assert {tensor.dtype for tensor in written.values()} == {dtype}
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["dtype"], config["architectures"]) == (str(dtype).removeprefix("torch."), ["LlamaForCausalLM"])
    assert export_worker.count_parameters(tmp_path / "out") == sum(each.numel() for each in model.parameters())
    export_worker.verify_folder(tmp_path / "out", state, [1, 2, 3, 4])


def test_of_a_long_example_only_the_beginning_is_read(tiny_folder, monkeypatch):
    """The first process alone reads it, on the CPU, with all its logits."""
    model, forward, lengths = AutoModelForCausalLM.from_pretrained(tiny_folder), LlamaForCausalLM.forward, []

    def note(self, input_ids, **more):
        lengths.append(input_ids.shape[1])
        return forward(self, input_ids=input_ids, **more)

    monkeypatch.setattr(LlamaForCausalLM, "forward", note)
    export_worker.verify_folder(tiny_folder, model.state_dict(), [7] * 400)
    assert max(lengths) == export_worker.READ_TOKENS < 400
