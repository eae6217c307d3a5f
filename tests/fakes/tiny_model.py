"""A random Llama of 150k parameters with a byte-level tokenizer, as a Hugging Face folder that real engines load."""

import json
from pathlib import Path

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def write(folder: Path, seed: int = 0, longest: int = 512) -> Path:
    """Makes the folder; another seed, other weights. Takes seconds: torch is imported."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=320, num_key_value_heads=1, max_position_embeddings=longest, **shape, **ends)
    LlamaForCausalLM(config).save_pretrained(folder)
    write_tokenizer(folder, longest)
    return folder


def write_tokenizer(folder: Path, longest: int = 512) -> None:
    """One token a byte, three special ones, the chat template."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({text: i for i, text in enumerate([*SPECIAL, *letters])}, []))
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in SPECIAL])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    named = dict(zip(("pad_token", "bos_token", "eos_token"), SPECIAL, strict=True))
    known = {**named, "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": longest}
    (folder / "tokenizer_config.json").write_text(json.dumps(known))
    (folder / "chat_template.jinja").write_text(CHATML)
