"""A model as a plain Hugging Face folder, read back before anybody is told that it exists."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from transformers import AutoModelForCausalLM, PreTrainedModel

from lrm_safety.chat import ChatTemplate
from lrm_safety.errors import Corrupt
from lrm_safety.store import ObjectStore

READ_TOKENS = 256
SMOKE_TOKENS = 8
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


State = Mapping[str, torch.Tensor]  # by name


def write_folder(model: PreTrainedModel, state: State, like: Path, folder: Path, template: str = "") -> None:
    """`state` as safetensors; tokenizer, chat template and generation config byte for byte from `like`.

    A model that was trained with a family's template by its name has that one: it is served as it was trained.
    """
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder, state_dict=dict(state))
    model.config.dtype = next(iter(state.values())).dtype  # where transformers has written what the model is trained in
    model.config.save_pretrained(folder)
    for name in TOKENIZER_FILES:
        if (like / name).is_file():
            shutil.copyfile(like / name, folder / name)
    if template:
        source = ChatTemplate.choose(folder, template).source
        (folder / "chat_template.jinja").write_text(source, encoding="utf-8")


def verify_folder(folder: Path, expected: State, sample: list[int]) -> None:
    """Loads the folder anew: every tensor as expected, and it answers to the sample. Raises Corrupt."""
    again = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", local_files_only=True, use_safetensors=True)
    compare(again, expected)
    try_out(again, sample)


def compare(again: PreTrainedModel, expected: State) -> None:
    """What was read back with what was to be written. Raises Corrupt naming the first tensor that differs."""
    for name, tensor in again.state_dict().items():
        if not torch.equal(tensor, expected[name].detach().to("cpu", tensor.dtype)):
            raise Corrupt(f"{name} in the written checkpoint is not what was to be written; check the disk, try again")


def try_out(model: PreTrainedModel, sample: list[int]) -> None:
    """Finite logits for the sample's first ids, and a few tokens more. Raises Corrupt."""
    model.train(False)
    ids = torch.tensor([sample[:READ_TOKENS]])
    with torch.no_grad():
        logits = model(input_ids=ids).logits
    if not torch.isfinite(logits).all():
        raise Corrupt("the written checkpoint computes values that are not finite; lower the learning rate")
    _generate(model, ids[:, :SMOKE_TOKENS])


def _generate(model: PreTrainedModel, ids: torch.Tensor) -> None:
    """As a server will, with the folder's own generation config."""
    try:
        with torch.no_grad():
            made: Any = model.generate(  # type: ignore[operator]
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=SMOKE_TOKENS, do_sample=False
            )
    except (RuntimeError, ValueError, IndexError, KeyError, TypeError) as error:
        raise Corrupt(f"the written checkpoint cannot generate: {error}; mend its generation_config.json") from error
    if made.shape[1] <= ids.shape[1]:
        raise Corrupt("the written checkpoint generates nothing; look at its generation_config.json")


def write_heads(store: ObjectStore, run: str, state: State) -> None:
    """What a method trained beside the model goes beside the run: servers read every safetensors file of a folder."""
    if state:
        store.write(f"runs/{run}/heads.safetensors", save(dict(state)))


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
