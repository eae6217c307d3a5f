"""The real worker with everything that a method may ask for at once: probes, spans, LoRA, stages that alternate."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load, load_file

from lrm_safety import artefacts
from lrm_safety.chat import target_text
from lrm_safety.nouns import Checkpoint, Example, Lora, Span, Turn
from services.trainer.attempt import EXIT_INVALID_INPUT
from services.trainer.ledger import Ledger
from tests.trainer.conftest import Bench, make_bench, publish_examples, write_model, write_tokenizer

TOLERANCE = 1e-5  # relative, of losses, terms and gradient norms in fp32


def rows() -> list[Example]:
    """Refusals whose first sentence restates the request, and sums."""
    found = []
    for number in range(8):
        thinking = f"They ask for thing {number}. It would do harm. So I refuse."
        one = Example(id=f"safety/{number}", prompt=f"Do thing {number}!", thinking=thinking, answer="I can't.")
        start = target_text(one, "keep").index(" It would")
        one.spans.extend([Span(name="understanding", end=start), Span(name="key", start=start, end=start + 18)])
        one.tags["safety"] = "safe" if number % 2 else "unsafe"
        found.append(one)
        sums = f"{number} and {number} are {2 * number}."
        found.append(
            Example(id=f"maths/{number}", prompt=f"What is {number} and {number}?", thinking=sums, answer="Done.")
        )
    return found


def weights(bench: Bench, ledger: Ledger, tmp_path: Path) -> list[dict[str, torch.Tensor]]:
    """Of the base, and of what came of it."""
    base = artefacts.find(bench.store, "checkpoints", Checkpoint, bench.base)
    found = [artefacts.fetch(bench.store, "checkpoints", one, tmp_path) for one in (base, ledger.read_result())]
    return [load_file(folder / "model.safetensors") for folder in found]


@pytest.mark.long
@pytest.mark.parametrize("stage", [0, 3])
def test_safekey_with_lora_in_turns(bench, tmp_path, stage):
    bench.dataset = publish_examples(bench.store, tmp_path, rows(), "mixed")
    spec = bench.spec(
        method="safekey",
        options={"last_epochs": "1"},
        lora=Lora(rank=4, dropout=0.1),
        turns=[Turn(part="safety", steps=1), Turn(part="maths", steps=1)],
        epochs=3,
        zero_stage=stage,
    )
    ledger, code, output = bench.train(spec)
    assert code == 0, output
    terms = [sorted(row.terms) for row in ledger.read_metrics()]
    assert terms == [[], [], [], [], ["head", "key", "sft"], []]  # in the last epoch, where there are spans
    before, after = weights(bench, ledger, tmp_path)
    assert before.keys() == after.keys()
    changed = {name.split(".")[-2] for name in before if not before[name].equal(after[name])}
    assert changed == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    heads = load(bench.store.read(f"runs/{ledger.run}/heads.safetensors"))
    assert {name: tuple(tensor.shape) for name, tensor in heads.items()} == {
        "understanding.weight": (1, 64),
        "understanding.bias": (1,),
        "request_and_understanding.weight": (1, 64),
        "request_and_understanding.bias": (1,),
    }


@pytest.mark.slow
def test_safekey_on_examples_without_spans_is_no_plain_sft(bench):
    ledger, code, output = bench.train(bench.spec(method="safekey"))
    assert code == EXIT_INVALID_INPUT, output
    assert "head_weight is 0.2, and no example has a span" in str(ledger.read_error(1))
    assert not list(ledger.read_metrics())


@pytest.mark.long
def test_detached_steps_leave_the_model_as_it_was(bench, tmp_path):
    """The second step has no labels."""
    bench.dataset = publish_examples(bench.store, tmp_path, rows(), "mixed")
    turns = [Turn(part="safety", steps=1), Turn(part="maths", steps=1)]
    options = {"last_epochs": "1", "detach": "true"}
    ledger, code, output = bench.train(
        bench.spec(method="safekey", options=options, turns=turns, epochs=1, zero_stage=2, weight_decay=0.1)
    )
    assert code == 0, output
    assert [row.loss > 0 for row in ledger.read_metrics()] == [True, False]
    before, after = weights(bench, ledger, tmp_path)
    assert all(before[name].equal(after[name]) for name in before)


@pytest.mark.long
@pytest.mark.parametrize(("stage", "detach"), [(2, "false"), (3, "true")])
def test_safekey_is_the_same_training_on_two_processes(tmp_path, stage, detach):
    """Micro-batches without a label or key among them; probes that join late, or are all that is still trained."""
    folder = tmp_path / "still"
    write_model(folder, dropout=0.0)  # its random numbers are drawn by process
    write_tokenizer(folder)
    bench = make_bench(tmp_path, folder)
    bench.dataset = publish_examples(bench.store, tmp_path, rows(), "mixed")
    curves = []
    for ways in ({"processes": 1}, {"processes": 2, "zero_stage": stage, "micro_batch_size": 1}):
        options = {"last_epochs": "1", "detach": detach}
        spec = bench.spec(method="safekey", options=options, epochs=3, weight_decay=0.1, **ways)
        ledger, code, output = bench.train(spec)
        assert code == 0, output
        found = list(ledger.read_metrics())
        assert all(row.mfu > 0 for row in found)
        curves.append([{"loss": row.loss, "norm": row.grad_norm, **row.terms} for row in found])
    one, two = curves
    assert len(one) == 6
    assert two == [pytest.approx(row, rel=TOLERANCE) for row in one]
