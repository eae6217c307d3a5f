"""The loss against one worked out position by position, on models made here."""

import pytest
import torch
from transformers import GraniteConfig, GraniteForCausalLM, LlamaConfig, LlamaForCausalLM

from services.trainer.method import Batch
from services.trainer.methods import sft

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


def llama():
    return LlamaForCausalLM(LlamaConfig(**SHAPE))


def granite():  # scales its logits behind the head
    return GraniteForCausalLM(GraniteConfig(**SHAPE, logits_scaling=3.0))


def batch() -> Batch:
    ids = torch.randint(1, 50, (2, 7), generator=torch.Generator().manual_seed(1))
    ids[1, 5:] = 0  # padding
    is_target = torch.zeros(2, 7, dtype=torch.bool)
    is_target[0, 3:7] = True
    is_target[1, 2:5] = True
    return Batch(ids, is_target)


def by_hand(model, one: Batch) -> torch.Tensor:
    """Every sequence alone, without padding; every target looked up in the full log-probabilities."""
    total = torch.zeros(())
    for ids, is_target in zip(one.ids, one.is_target, strict=True):
        end = int(is_target.nonzero().max()) + 1
        logs = model(input_ids=ids[None, :end]).logits[0].log_softmax(-1)
        for at in is_target.nonzero().flatten().tolist():
            total = total - logs[at - 1, ids[at]]
    return total


@pytest.mark.parametrize("make", [llama, granite])
def test_loss_and_gradient_are_those_of_the_full_computation(make):
    torch.manual_seed(0)
    model, one = make(), batch()
    sft.loss(model, one).total.backward()
    ours = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    expected = by_hand(model, one)
    expected.backward()
    assert sft.loss(model, one).total.item() == pytest.approx(expected.item(), rel=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-4, atol=1e-6)


def test_only_target_positions_reach_the_head():
    model, one = llama(), batch()
    assert sft.target_logits(model, one).shape == (7, 50)
    assert model(input_ids=one.ids).logits.shape == (2, 7, 50)  # the hook is gone afterwards


def test_cross_entropy_sum():
    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0]])
    sums = sft.cross_entropy_sum(logits, torch.tensor([0, 1]))
    assert sums.total.item() == pytest.approx(0.126928 + 0.693147, rel=1e-5)
    assert sums.correct.item() == 1
