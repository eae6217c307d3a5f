"""The way that is chosen before a training: the fastest that is the same, and never one that mixes sequences."""

from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from torch.nn import functional
from transformers import (
    AttentionInterface,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from lrm_safety.nouns import TrainingSpec
from services.trainer import cross_entropy_worker, forward_worker, proof_worker
from services.trainer.encoding import EncodedRows
from services.trainer.forward_worker import FLASH, SLICES, VARLEN, Way, attend_varlen, attend_within, ways
from services.trainer.ledger import Ledger
from services.trainer.proof_worker import choose_way, measure
from tests.trainer.methods.made import SHAPE, encoded

EXAMPLES = EncodedRows.of(encoded(length, 12, seed) for seed, length in enumerate((30, 60, 30)))


def attend_across(module, query, key, value, attention_mask, **options):
    """What packing must not be: one causal sequence."""
    whole = {**options, "sequence_lengths": (query.shape[2],)}
    return attend_within(module, query, key, value, attention_mask, **whole)


def test_packed_where_it_is_the_same():
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SHAPE))
    assert choose_way(model, EXAMPLES, "fp32") == Way(SLICES, True, True)
    assert model.config._attn_implementation == SLICES
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(("stage", "precision"), [(2, "bf16"), (3, "fp32")])
def test_what_zero_3_will_spread_is_shown_on_a_processor(monkeypatch, store, stage, precision):
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    monkeypatch.setattr(dist, "broadcast_object_list", lambda objects, device: None)
    shown, way = [], Way(SLICES, True, True)
    monkeypatch.setattr(proof_worker, "choose_way", lambda model, rows, precision: shown.append(precision) or way)
    model, spec = LlamaForCausalLM(LlamaConfig(**SHAPE)), TrainingSpec(zero_stage=stage)
    assert proof_worker.agree(model, EXAMPLES, spec, "bf16", Ledger(store, "training-1", 1)) == way
    assert shown == [precision]


def test_no_more_than_one_gradient_is_there_at_a_time():
    """A model whose weights fill a GPU has no room there for as many gradients."""
    model, held = LlamaForCausalLM(LlamaConfig(**SHAPE, tie_word_embeddings=True)), []

    def count(_):
        held.append(sum(parameter.grad is not None for parameter in model.parameters()))

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(count)
    ids = torch.arange(20)[None]
    _, found = measure(model, model(input_ids=ids, labels=ids).loss)
    assert held and max(held) == 1 and all(parameter.grad is None for parameter in model.parameters())
    model(input_ids=ids, labels=ids).loss.backward()
    torch.testing.assert_close(found, torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))


def test_with_logits_where_the_model_goes_on_behind_its_head():
    model = GraniteForCausalLM(GraniteConfig(**SHAPE, logits_scaling=3.0))
    assert choose_way(model, EXAMPLES, "fp32") == Way(SLICES, True, False)


def test_padded_where_sequences_would_see_each_other():
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SHAPE))
    AttentionInterface.register(SLICES, attend_across)
    try:
        assert choose_way(model, EXAMPLES, "fp32") == Way("sdpa", False, True)
    finally:
        AttentionInterface.register(SLICES, attend_within)
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("has_package", "dropout", "expected"),
    [(True, 0.0, [FLASH, VARLEN, SLICES]), (False, 0.0, [VARLEN, SLICES]), (False, 0.1, [SLICES])],
)
def test_a_gpu_has_more_ways_and_each_has_one_to_fall_back_on(monkeypatch, has_package, dropout, expected):
    monkeypatch.setattr(forward_worker, "find_spec", lambda name: has_package or None)
    config = LlamaConfig(**SHAPE, attention_dropout=dropout, attn_implementation="sdpa")
    model = SimpleNamespace(config=config, device=torch.device("cuda"))
    found = ways(model, 12)
    assert list(dict.fromkeys(way.attention for way in found)) == [*expected, "sdpa"]
    assert [way.is_packed for way in found] == [True] * 2 * len(expected) + [False] * 2
    model.device = torch.device("cpu")
    assert {way.attention for way in ways(model, 12)} == {SLICES, "sdpa"}


def one_kernel(query, key, value, *limits, scale, window_size, enable_gqa):
    """torch's varlen_attn, by the meaning of its arguments: [tokens, heads, width], ends of the sequences."""
    ends, lengths = limits[0].tolist(), limits[0].diff().tolist()
    assert limits[2:] == (max(lengths), max(lengths)) and ends[-1] == len(query)
    assert (window_size, enable_gqa, query.dtype) == ((-1, 0), True, value.dtype)
    rows = zip(*(tensor.transpose(0, 1).split(lengths, 1) for tensor in (query, key, value)), strict=True)
    attend = functional.scaled_dot_product_attention
    pieces = [attend(q, k, v, is_causal=True, scale=scale, enable_gqa=enable_gqa) for q, k, v in rows]
    return torch.cat(pieces, 1).transpose(0, 1)


def test_one_kernel_attends_as_slices_do(monkeypatch):
    monkeypatch.setattr(forward_worker, "varlen_attn", one_kernel)
    draw = torch.Generator().manual_seed(1)
    query, key, value = (torch.randn(1, heads, 12, 8, generator=draw) for heads in (4, 2, 2))
    ends = torch.tensor([0, 3, 4, 12], dtype=torch.int32)
    found, _ = attend_varlen(None, query, key, value, None, cu_seq_lens_q=ends, max_length_q=8, scaling=0.3)
    expected, _ = attend_within(None, query, key, value, None, sequence_lengths=(3, 1, 8), scaling=0.3)
    torch.testing.assert_close(found, expected)
    with pytest.raises(NotImplementedError):
        attend_varlen(None, query, key, value, None, cu_seq_lens_q=ends, max_length_q=8, sliding_window=4)


@pytest.mark.parametrize(("window", "way"), [(59, Way("sdpa", False, True)), (60, Way(SLICES, True, True))])
def test_padded_where_an_example_is_longer_than_the_window_of_attention(window, way):
    model = MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=window))
    assert choose_way(model, EXAMPLES, "fp32") == way


@pytest.mark.parametrize("count", [0, 1, cross_entropy_worker.ROWS["cpu"] + 3])
@pytest.mark.parametrize("is_frozen", [False, True])
def test_the_head_without_logits(count, is_frozen):
    """Loss, first choices and both gradients, through an upstream factor as the engine has one."""
    draw = torch.Generator().manual_seed(1)
    hidden, labels = torch.randn(count, 8, generator=draw), torch.randint(0, 40, (count,), generator=draw)
    weight = torch.randn(40, 8, generator=draw)
    ours = [hidden.clone().requires_grad_(), weight.clone().requires_grad_(not is_frozen)]
    theirs = [hidden.clone().requires_grad_(), weight.clone().requires_grad_(not is_frozen)]
    total, correct = cross_entropy_worker.fused(*ours, labels)
    logits = functional.linear(*theirs)
    expected, first = cross_entropy_worker.plain(logits, labels)
    (total * 0.25).backward()
    (expected * 0.25).backward()
    torch.testing.assert_close(total, expected, rtol=1e-5, atol=1e-5)
    assert correct == first
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine.grad is None) == (other.grad is None)
        if mine.grad is not None:
            torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-6)
