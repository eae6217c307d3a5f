"""Turns an origin into a plain Hugging Face folder and publishes it: the job behind TrainerService.ImportCheckpoint.

python -m services.trainer.import_worker import-0f3a… 1
"""

import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from lrm_safety import __version__, artefacts, observe
from lrm_safety.errors import InvalidInput
from lrm_safety.jobs.machine import detect
from lrm_safety.nouns import Checkpoint, Lineage
from services.trainer import export_worker, weighing
from services.trainer.attempt import Attempt, Interrupted, carry_out
from services.trainer.encoding import read_tokenizer
from services.trainer.export_worker import State
from services.trainer.origins import Origin, copy_folder, download, find_in_package, read_licence

log = observe.logger(__name__)
PADS = ("<|endoftext|>", "<|finetune_right_pad_id|>", "<pad>", "[PAD]", "<unk>")
SAMPLE = "Hello, how are you?"
OF_EMBEDDERS = "modules.json"  # sentence-transformers' mark


def work(attempt: Attempt) -> None:
    """The run's spec says which: training.base is the origin, training.name the checkpoint's name."""
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    asked = attempt.run.spec.training
    origin = Origin.parse(asked.base)
    scratch = attempt.settings.state_dir / "import" / attempt.run.id
    shutil.rmtree(scratch, ignore_errors=True)
    out = scratch / "folder"
    attempt.ledger.progress("importing", 0, 1, "checkpoints")
    _make_sure_of_memory(origin, attempt)
    licence, dequantised = _gather(origin, out, scratch, attempt)
    embeds = (out / OF_EMBEDDERS).is_file()
    _complete_tokenizer(out)
    _verify(out, embeds, dequantised)
    del dequantised
    attempt.ledger.progress("publishing", 0, 1, "checkpoints")
    lineage = Lineage(origin=str(origin), licence=licence, run=attempt.run.id, code_version=__version__)
    parameters = export_worker.count_parameters(out)
    checkpoint = Checkpoint(name=asked.name, lineage=lineage, parameters=parameters, embeds=embeds)
    attempt.ledger.finish(artefacts.publish(attempt.store, "checkpoints", out, checkpoint))
    shutil.rmtree(scratch, ignore_errors=True)


def convert_gguf(file: Path, folder: Path) -> tuple[str, State]:
    """Dequantises a GGUF file to an fp32 folder. Returns its licence, and what the folder's weights should be.

    The chat template comes with the tokenizer.
    """
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    loaded = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    _separate_padding(tokenizer)
    config = loaded.config
    for name in ("quantization_config", "_name_or_path", "_model_name_or_path"):
        config.__dict__.pop(name, None)
    config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    config.pad_token_id = tokenizer.pad_token_id
    with torch.device("meta"):
        model = type(loaded)(config)  # a new one: the loaded one remembers that it was quantised
    model.load_state_dict(loaded.state_dict(), strict=True, assign=True)  # the same tensors: they are here once
    model.tie_weights()
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    licence = GGUFReader(file).get_field("general.license")
    return str(licence.contents()) if licence else "", model.state_dict()


def _make_sure_of_memory(origin: Origin, attempt: Attempt) -> None:
    """Before anything is fetched. Raises Interrupted when the next attempt is to ask for more."""
    needed = partial(weighing.needed_gib, origin, attempt.settings.hub_offline)
    if weighing.is_short(attempt.ledger, needed, detect().memory_gib):
        raise Interrupted


def _gather(origin: Origin, out: Path, scratch: Path, attempt: Attempt) -> tuple[str, State]:
    """Fills the folder `out`; returns the licence, and what was dequantised: empty for what was safetensors before."""
    source = find_in_package(origin.place) if origin.kind == "package" else Path(origin.place)
    if source.suffix == ".gguf":
        return convert_gguf(source, out)
    if origin.kind == "hub":
        copy_folder(download(origin.place, scratch / "hub", attempt.settings.hub_offline), out, put=Path.replace)
    else:
        copy_folder(source, out)
    return read_licence(out), {}


def _verify(folder: Path, embeds: bool, dequantised: State) -> None:
    """Loads the folder, once: it is complete, says what was dequantised, and generates."""
    model = _load(folder, AutoModel if embeds else AutoModelForCausalLM)
    if dequantised:
        export_worker.compare(model, dequantised)
    if not embeds:
        _complete_generation(folder, model)
        sample = read_tokenizer(folder).encode(SAMPLE, add_special_tokens=False).ids
        export_worker.try_out(model, sample)


def _load(folder: Path, kind: Any) -> PreTrainedModel:
    """`kind` is a class of transformers. Raises InvalidInput when the folder is no complete model of such a kind."""
    try:
        answer: Any = kind.from_pretrained(
            folder, dtype="auto", local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except Exception as error:  # whatever is wrong with foreign files, transformers says it in many ways
        log.warning("import_refused", exc_info=error)
        raise InvalidInput(f"the weights cannot be loaded as {kind.__name__}: {error}") from error
    loaded: PreTrainedModel
    loaded, report = answer
    if missing := sorted(report["missing_keys"]):
        raise InvalidInput(f"the safetensors files lack {len(missing)} tensors, e.g. {missing[0]}; fetch them again")
    return loaded


def _complete_tokenizer(folder: Path) -> None:
    """Writes tokenizer.json where the origin had none."""
    if not (folder / "tokenizer.json").is_file():
        try:
            AutoTokenizer.from_pretrained(folder, local_files_only=True).save_pretrained(folder)
        except (OSError, ValueError, ImportError) as error:
            raise InvalidInput(f"no tokenizer.json, and none can be made of what is there: {error}") from error


def _complete_generation(folder: Path, model: PreTrainedModel) -> None:
    """Writes generation_config.json where the origin had none; the model goes by it from here on."""
    if not (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_model_config(model.config)
        model.generation_config.save_pretrained(folder)


def _separate_padding(tokenizer: PreTrainedTokenizerBase) -> None:
    """Padding must not be the end of turn: a mask by token id would then train the model never to stop."""
    if tokenizer.pad_token not in (None, tokenizer.eos_token):
        return
    known = tokenizer.get_vocab()
    tokenizer.pad_token = next((pad for pad in PADS if pad in known and pad != tokenizer.eos_token), None)
    if tokenizer.pad_token is None:
        raise InvalidInput(f"the tokenizer has no token that could pad; expected one of {', '.join(PADS)}")


if __name__ == "__main__":
    sys.exit(carry_out(work))
