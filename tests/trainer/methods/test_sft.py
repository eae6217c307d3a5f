"""The loss against one worked out position by position, on models made here, whichever way the model is run."""

import pytest
import torch
from transformers import GraniteConfig, GraniteForCausalLM, LlamaConfig, LlamaForCausalLM

from services.trainer.forward_worker import SLICES, Forward, Way
from services.trainer.methods import sft
from tests.trainer.methods.made import SHAPE, encoded, make_batch

PACKED, PLAIN = Way(SLICES, True, True), Way("sdpa", False, False)


def llama():
    return LlamaForCausalLM(LlamaConfig(**SHAPE))


def granite():  # scales its logits behind the head
    return GraniteForCausalLM(GraniteConfig(**SHAPE, logits_scaling=3.0))


def by_hand(model, examples) -> torch.Tensor:
    """Every sequence alone; every target looked up in the full log-probabilities."""
    total = torch.zeros(())
    for example in examples:
        logs = model(input_ids=torch.tensor([example.ids])).logits[0].log_softmax(-1)
        for at in range(example.start, len(example.ids)):
            total = total - logs[at - 1, example.ids[at]]
    return total


@pytest.mark.parametrize(
    ("make", "way"),
    [
        (llama, PACKED),
        (llama, Way(SLICES, True, False)),
        (llama, Way("sdpa", False, True)),
        (llama, PLAIN),
        (granite, Way(SLICES, True, False)),
        (granite, PLAIN),
    ],
)
def test_loss_and_gradient_are_those_of_the_full_computation(make, way):
    torch.manual_seed(0)
    model, objective = make(), sft.make({})
    examples = [encoded(9, 4, seed=1), encoded(5, 2, seed=2), encoded(7, 6, seed=3)]
    expected = by_hand(model, examples)
    expected.backward()
    by_reference = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    model.set_attn_implementation(way.attention)
    sums = objective.loss(Forward(model, way, {}), make_batch(objective, examples))
    sums.terms["sft"].backward()
    assert sums.terms["sft"].item() == pytest.approx(expected.item(), rel=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, by_reference[name], rtol=1e-4, atol=1e-6)


def test_what_a_step_counts():
    assert sft.make({}).parts([encoded(9, 4), encoded(5, 2)], 0, 1.0)["sft"].count == 8
