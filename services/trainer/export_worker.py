"""A model as a plain Hugging Face folder, read back before anybody is told that it exists."""

import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoModelForCausalLM, PreTrainedModel

from lrm_safety.errors import Corrupt

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "generation_config.json",
)


def write_folder(model: PreTrainedModel, dtype: torch.dtype, like: Path, folder: Path) -> None:
    """Weights as safetensors in `dtype`; tokenizer, chat template and generation config byte for byte from `like`."""
    shutil.rmtree(folder, ignore_errors=True)
    state = {name: tensor.detach().to(dtype) for name, tensor in model.state_dict().items()}
    model.config.dtype = dtype
    model.save_pretrained(folder, state_dict=state)
    for name in TOKENIZER_FILES:
        if (like / name).is_file():
            shutil.copyfile(like / name, folder / name)


def verify_folder(folder: Path, model: PreTrainedModel, sample: list[int]) -> None:
    """Loads the folder anew: every tensor as in `model`, and the same logits for the sample's ids. Raises Corrupt."""
    again = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", local_files_only=True, use_safetensors=True)
    again.train(False)
    expected = model.state_dict()
    for name, tensor in again.state_dict().items():
        if not torch.equal(tensor, expected[name].detach().to("cpu", tensor.dtype)):
            raise Corrupt(f"{name} in the written checkpoint is not what was trained; check the disk and train again")
    ids = torch.tensor([sample])
    with torch.no_grad():
        logits = again(input_ids=ids).logits
    if not torch.isfinite(logits).all():
        raise Corrupt("the written checkpoint computes values that are not finite; lower the learning rate")


def count_parameters(folder: Path) -> float:
    """Numbers in the folder's safetensors files; a tied matrix is stored, and counted, once."""
    total = 0
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                total += sum(_size(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
        except SafetensorError as error:
            raise Corrupt(f"{path.name} cannot be read ({error}); fetch it again") from error
    return float(total)


def _size(shape: list[int]) -> int:
    return int(torch.Size(shape).numel())
