"""Gradient checkpointing: the same training, in less memory; taken by itself where the memory is too small without."""

import pytest
import torch
import torch.distributed as dist

from lrm_safety.nouns import TrainingSpec
from services.trainer import outset_worker
from services.trainer.estimate import Shape, estimate
from services.trainer.forward_worker import SLICES, Forward, Way
from services.trainer.method import Sequences
from tests.trainer.conftest import tiny_llama

LENGTHS = (300, 200)
WAYS = [Way(SLICES, True, True), Way("sdpa", False, False)]
SPEC = TrainingSpec(processes=1, nodes=1, micro_batch_size=2, offload="optimizer", zero_stage=1)


def loss(model, way):
    """Summed over the second half of each of two sequences."""
    ids = torch.randint(0, 512, (sum(LENGTHS),), generator=torch.Generator().manual_seed(0))
    positions = torch.cat([torch.arange(length) for length in LENGTHS])
    mask = torch.cat([torch.arange(length) >= length // 2 for length in LENGTHS])
    torch.manual_seed(1)
    return Forward(model, way, {}).read(Sequences(ids, positions, LENGTHS), [mask]).totals[0]


def llama(way, is_checkpointed, **changes):
    model = tiny_llama(**changes).train()
    model.set_attn_implementation(way.attention)
    if is_checkpointed:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model


@pytest.mark.parametrize("way", WAYS)
def test_loss_and_gradients_are_the_same_to_the_last_bit(way):
    """Dropout included."""
    losses, gradients = [], []
    for is_checkpointed in (False, True):
        model = llama(way, is_checkpointed, attention_dropout=0.1)
        losses.append(loss(model, way))
        losses[-1].backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert losses[0].equal(losses[1])
    assert all(one.equal(other) for one, other in zip(*gradients, strict=True))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_estimate_is_a_little_below_what_is_kept(precision):
    sizes = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 6, "vocab_size": 512}
    model = llama(WAYS[0], False, **sizes)
    own, kept = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}, {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage  # held, so that no other comes to lie there
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"),
    ):
        loss(model, WAYS[0])
    shape = Shape(model.num_parameters(), layers=6, hidden=128, intermediate=512, positions=0, vocabulary=512)
    reckoned = estimate(shape, SPEC, precision, sum(LENGTHS))["activations"]
    measured = sum(storage.nbytes() for storage in kept.values()) / 2**30
    assert 0.85 * measured < reckoned < measured


@pytest.mark.parametrize(("has_gib", "is_needed"), [(100.0, False), (40.0, True)])
def test_the_outset_decides_and_says_so(monkeypatch, tmp_path, has_gib, is_needed):
    shape = Shape(1e9, layers=24, hidden=2048, intermediate=8192, positions=4096, vocabulary=32000)
    monkeypatch.setattr(outset_worker, "has_gib", lambda device, spec: has_gib)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/processes", rank=0, world_size=1)
    try:
        settled, needs = outset_worker.reckon(shape, SPEC, "fp32", [4096, 4096])
    finally:
        dist.destroy_process_group()
    assert (settled.gradient_checkpointing, settled.precision) == (is_needed, "fp32")
    assert settled.offload == "optimizer"  # as asked, though host memory is what there is
    assert sum(needs.values()) < has_gib
