"""One conversation rendered and tokenised before a training, and every reason to refuse."""

import json
import shutil

import pytest
from tokenizers import Tokenizer, processors

from lrm_safety.chat import ChatTemplate
from lrm_safety.errors import InvalidInput
from lrm_safety.rendering import prove
from tests.trainer.conftest import CHATML


@pytest.fixture
def folder(tiny_folder, tmp_path):
    """The tiny checkpoint without its weights, to be spoiled."""
    target = tmp_path / "copy"
    shutil.copytree(tiny_folder, target, ignore=shutil.ignore_patterns("*.safetensors"))
    return target


def spoil(folder, old, new):
    (folder / "chat_template.jinja").write_text(CHATML.replace(old, new))


@pytest.mark.parametrize("template", ["", "smollm2", "qwen2_5", "s1"])
@pytest.mark.parametrize("thinking", ["keep", "empty", "none"])
def test_what_is_right_passes(folder, template, thinking):
    prove(folder, thinking, template)


def test_a_template_that_is_foreign_to_the_model(folder):
    with pytest.raises(InvalidInput, match=r"template 'llama3' needs .* as a single token"):
        prove(folder, "keep", "llama3")


def test_a_template_that_loses_the_question(folder):
    spoil(folder, "message['content']", "'…'")
    with pytest.raises(InvalidInput, match="loses the question"):
        prove(folder, "keep")


def test_generation_that_would_not_stop(folder):
    config = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({**config, "eos_token_id": [0, 7]}))
    with pytest.raises(InvalidInput, match=r"stops at the tokens \[0, 7\].*would never stop"):
        prove(folder, "keep")


def test_a_beginning_of_text_that_is_missing_or_there_twice(folder):
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    end = tokenizer.token_to_id("<|endoftext|>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", end)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    with pytest.raises(InvalidInput, match="reads a beginning of text before every prompt"):
        prove(folder, "keep")
    spoil(folder, "{% for", "<|endoftext|>{% for")
    prove(folder, "keep")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "bos_token": "<|endoftext|>"}))
    spoil(folder, "{% for", "<|endoftext|><|endoftext|>{% for")
    with pytest.raises(InvalidInput, match="twice"):
        prove(folder, "keep")


def test_the_template_of_s1_says_so_wherever_it_goes(folder):
    (folder / "chat_template.jinja").write_text(ChatTemplate.choose(folder, "s1").source)
    assert ChatTemplate.from_folder(folder).tags == ("<|im_start|>think", "<|im_start|>answer")
    prove(folder, "keep")
