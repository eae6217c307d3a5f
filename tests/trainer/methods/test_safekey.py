"""SafeKey's terms against a reference written as the paper has them: masks, full logits, one example at a time."""

import pytest
import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from lrm_safety.errors import InvalidInput
from services.trainer import method
from services.trainer.forward_worker import SLICES, Forward, Way
from services.trainer.methods import safekey
from tests.trainer.methods.made import SHAPE, encoded, make_batch

WAYS = [Way(SLICES, True, True), Way("sdpa", False, False)]
EXAMPLES = [  # spans in tokens: U ends where K begins
    encoded(20, 6, 1, {"understanding": (6, 10), "key": (10, 14)}, "unsafe"),
    encoded(12, 3, 2, {"understanding": (3, 5), "key": (5, 9)}, "safe"),
    encoded(8, 4, 3),  # neither span nor label
]


def objective(**options):
    return safekey.make({**safekey.OPTIONS, **options})


def model_and_heads(one, way):
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SHAPE))
    heads = one.heads(SHAPE["hidden_size"])
    model.set_attn_implementation(way.attention)
    return model, heads


def reference(model, heads, theta=0.5, hides_query=True):
    """(key sum, head sum) with a 2-D attention mask over the query and the mean-pooled last entry of hidden_states."""
    model.set_attn_implementation("sdpa")
    key, head = torch.zeros(()), torch.zeros(())
    for example in EXAMPLES[:2]:
        ids = torch.tensor([example.ids])
        u, k = example.spans["understanding"], example.spans["key"]
        sees = torch.ones_like(ids)
        if hides_query:
            sees[:, : example.start] = 0
        positions = torch.arange(len(example.ids))[None]
        logits = model(input_ids=ids, attention_mask=sees, position_ids=positions).logits[0]
        key = key + functional.cross_entropy(logits[k[0] - 1 : k[1] - 1], ids[0, k[0] : k[1]], reduction="sum")
        hidden = model(input_ids=ids, output_hidden_states=True).hidden_states[-1][0]
        wanted = torch.tensor([1.0 if example.label == "unsafe" else 0.0])
        z_u = heads["understanding"](hidden[example.start : u[1]].mean(0))
        z_xu = heads["request_and_understanding"](hidden[: u[1]].mean(0))
        bce = functional.binary_cross_entropy_with_logits
        head = head + theta * bce(z_u, wanted) + (1 - theta) * bce(z_xu, wanted)
    return key, head


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("theta", "hides_query"), [(0.5, True), (0.0, True), (1.0, False)])
def test_terms_and_gradients_are_the_references(way, theta, hides_query):
    one = objective(theta=str(theta), mask_query=str(hides_query))
    model, heads = model_and_heads(one, way)
    sums = one.loss(Forward(model, way, heads), make_batch(one, EXAMPLES, epoch=4, epochs=5))
    (sums.terms["key"] + sums.terms["head"]).backward()
    parameters = [*model.parameters(), *heads["understanding"].parameters()]
    ours = [None if p.grad is None else p.grad.clone() for p in parameters]
    for parameter in [*model.parameters(), *heads["understanding"].parameters()]:
        parameter.grad = None
    key, head = reference(model, heads, theta, hides_query)
    (key + head).backward()
    assert sums.terms["key"].item() == pytest.approx(key.item(), rel=1e-5)
    assert sums.terms["head"].item() == pytest.approx(head.item(), rel=1e-5)
    for mine, parameter in zip(ours, parameters, strict=True):
        torch.testing.assert_close(mine, parameter.grad, rtol=1e-4, atol=1e-6)


def test_weights_counts_and_the_last_epochs():
    one = objective()
    assert set(one.parts(EXAMPLES, 2, 5)) == {"sft"}
    parts = one.parts(EXAMPLES, 3, 5)
    assert {name: (part.weight, part.count) for name, part in parts.items()} == {
        "sft": (1.0, 27),
        "key": (0.2, 8),
        "head": (0.2, 2),
    }
    assert set(one.parts(EXAMPLES[2:], 4, 5)) == {"sft"}
    assert set(objective(head_weight="0").parts(EXAMPLES, 4, 5)) == {"sft", "key"}
    assert not objective(head_weight="0").heads(16)


def test_a_detached_probe_leaves_the_model_alone():
    one = objective(detach="true")
    model, heads = model_and_heads(one, WAYS[0])
    batch = make_batch(one, EXAMPLES, epoch=4, epochs=5)
    assert {name: part.trains for name, part in batch.parts.items()} == {"head": {method.HEADS}}
    one.loss(Forward(model, WAYS[0], heads), batch).terms["head"].backward()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert heads["understanding"].weight.grad.abs().sum() > 0


def test_a_detached_step_without_labels_trains_nothing():
    one = objective(detach="true")
    assert one.parts(EXAMPLES[2:], 4, 5) == {"sft": method.Part(0.0, 4, frozenset())}
    with pytest.raises(InvalidInput, match="head_weight 0 leaves none"):
        objective(detach="true", head_weight="0")


@pytest.mark.parametrize(
    ("examples", "options", "reason"),
    [
        (EXAMPLES, {}, ""),
        (EXAMPLES[2:], {}, "head_weight is 0.2, and no example has a span `understanding` and the tag `safety`"),
        (EXAMPLES[2:], {"head_weight": "0"}, "key_weight is 0.2, and no example has a span `key`"),
        (EXAMPLES[2:], {"head_weight": "0", "key_weight": "0"}, ""),
        (EXAMPLES[2:], {"last_epochs": "0"}, ""),
        ([encoded(20, 6, 1, {"understanding": (6, 10)}, "unsafe")], {}, "no example has a span `key`"),
        ([encoded(20, 6, 1, {"understanding": (6, 10)}, "unsafe")], {"detach": "true"}, ""),
    ],
)
def test_a_dataset_without_what_a_term_trains_on_is_refused(examples, options, reason):
    one = objective(**options)
    if not reason:
        one.require(examples)
        return
    with pytest.raises(InvalidInput, match=reason):
        one.require(examples)


def test_options_are_checked():
    with pytest.raises(InvalidInput, match=r"options\.theta is '2'; expected a number from 0 to 1"):
        objective(theta="2")
    with pytest.raises(InvalidInput, match="expected true or false"):
        objective(detach="maybe")
    with pytest.raises(InvalidInput, match="no option 'thta'; expected of: head_weight, key_weight, theta"):
        method.load("safekey", {"thta": "1"})
