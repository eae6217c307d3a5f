"""What a step does not train stands still: weights, moments, and how often they were moved."""

import types

import torch

from lrm_safety.nouns import TrainingSpec
from services.trainer.method import HEADS, MODEL
from services.trainer.optimizer_worker import choose, make_optimizer

SPEC = TrainingSpec(learning_rate=0.1, weight_decay=0.5, adam_beta2=0.95)


def test_heads_that_join_late_step_as_if_it_were_the_first():
    trained = torch.nn.ModuleDict({MODEL: torch.nn.Linear(3, 2), HEADS: torch.nn.Linear(2, 1)})
    optimizer = make_optimizer(trained, SPEC)
    engine = types.SimpleNamespace(optimizer=optimizer, zero_optimization_stage=lambda: 0)
    before = {name: parameter.detach().clone() for name, parameter in trained.named_parameters()}
    for parameter in trained.parameters():
        parameter.grad = torch.ones_like(parameter)
    choose(engine, {MODEL}, 0.1)
    optimizer.step()
    moved = {name for name, parameter in trained.named_parameters() if not parameter.equal(before[name])}
    assert moved == {"model.weight", "model.bias"}
    assert not any(optimizer.state.get(parameter) for parameter in trained[HEADS].parameters())
    choose(engine, {HEADS}, 0.1)
    optimizer.step()
    torch.testing.assert_close(trained[HEADS].weight, before["heads.weight"] * (1 - 0.1 * 0.5) - 0.1)
    torch.testing.assert_close(trained[HEADS].bias, before["heads.bias"] - 0.1)  # biases are not decayed
    assert {float(state["step"]) for state in optimizer.state.values()} == {1.0}
