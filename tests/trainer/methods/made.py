"""Encoded examples of random tokens, and batches of them."""

import random

import torch

from lrm_safety.encoding import Encoded
from services.trainer.step_worker import make_batch as real_make_batch

SHAPE = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}


def encoded(length: int, start: int, seed: int = 0, spans=None, label: str = "") -> Encoded:
    ids = random.Random(seed).choices(range(1, 50), k=length)
    return Encoded(f"part/{seed}", ids, start, spans or {}, label)


def make_batch(objective, examples, epoch: int = 0, epochs: float = 1.0):
    return real_make_batch(examples, objective.parts(examples, epoch, epochs), torch.device("cpu"))
