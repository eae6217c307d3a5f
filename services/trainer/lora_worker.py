"""LoRA for any method (Hu et al., 2106.09685): small updates of all linear layers are trained, and merged on export.

peft takes seconds to import, so only trainings that ask for it do.
"""

from typing import TYPE_CHECKING, cast

import deepspeed
import torch
from transformers import PreTrainedModel

from lrm_safety.nouns import Lora

if TYPE_CHECKING:
    from peft import PeftModel


def adapt(model: PreTrainedModel, lora: Lora, seed: int) -> "PeftModel":
    """Freezes the model's weights and puts updates, zero at first, beside them; the model stays its own class."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)  # the same in all processes
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha or 2 * lora.rank,  # type: ignore[arg-type]
        lora_dropout=lora.dropout,
        target_modules="all-linear",  # but the head
        task_type="CAUSAL_LM",
    )
    return cast("PeftModel", get_peft_model(model, config))


def merge(adapted: "PeftModel") -> PreTrainedModel:
    """The plain model with its updates added; what was adapted is that model from then on.

    All processes take part: under ZeRO-3 one layer at a time is gathered.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    for layer in adapted.modules():
        if isinstance(layer, BaseTunerLayer):
            with deepspeed.zero.GatheredParameters(list(layer.parameters()), modifier_rank=0):
                layer.merge()
    return cast(PreTrainedModel, adapted.unload())
