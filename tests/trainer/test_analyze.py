"""Attention and divergence on a tiny model, against what is worked out by hand; and the job from end to end."""

import pytest

from lrm_safety import artefacts
from lrm_safety.clients import rpc, rpc_stream
from lrm_safety.encoding import Encoded
from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import (
    AnalysisSpec,
    AnalyzeRequest,
    Checkpoint,
    Example,
    GetAnalysisRequest,
    RunState,
    WatchRunRequest,
)
from services.trainer import limits, service
from tests.trainer.conftest import publish_examples

torch = pytest.importorskip("torch")
EXAMPLE = Encoded("a", [1, *range(20, 80)], start=10, spans={"understanding": (12, 20), "key": (20, 25)})


@pytest.fixture
def model(tiny_folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_folder, attn_implementation="eager").train(False)


def test_attention_is_the_last_layer_s_mean_over_heads(model):
    from services.trainer.analyze_worker import attention

    weights = model(input_ids=torch.tensor([EXAMPLE.ids]), output_attentions=True).attentions[-1][0].detach().mean(0)
    found = attention(model, EXAMPLE)
    assert found["to the understanding"] == pytest.approx(float(weights[20:25, 12:20].sum(1).mean()), rel=1e-5)
    assert found["to the request"] == pytest.approx(float(weights[20:25, :10].sum(1).mean()), rel=1e-5)
    assert attention(model, Encoded("a", EXAMPLE.ids, 10)) == {}


def test_divergence_is_zero_from_itself_and_the_textbook_s_from_another(model, tiny_folder):
    from transformers import AutoModelForCausalLM

    from services.trainer.analyze_worker import PREFILLS, divergence

    other = AutoModelForCausalLM.from_pretrained(tiny_folder).train(False)
    assert max(divergence(model, other, EXAMPLE).values()) < 1e-9
    with torch.no_grad():
        other.model.layers[0].mlp.down_proj.weight.mul_(-20)
    found = divergence(model, other, EXAMPLE)
    assert list(found) == [f"after {k} tokens" for k in PREFILLS]
    p, q = (each(input_ids=torch.tensor([EXAMPLE.ids[:16]])).logits[0, -1].double() for each in (model, other))
    expected = torch.nn.functional.kl_div(q.log_softmax(-1), p.softmax(-1), reduction="sum")
    assert found["after 6 tokens"] == pytest.approx(float(expected), rel=1e-4)
    assert list(divergence(model, other, Encoded("a", EXAMPLE.ids[:15], 10))) == ["after 4 tokens"]


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (AnalysisSpec(analysis="x"), "attention, divergence"),
        (AnalysisSpec(analysis="divergence"), "divergence compares with one"),
        (AnalysisSpec(analysis="attention", base="b"), "no other does"),
        (AnalysisSpec(analysis="attention", limit=-1), "a limit of 0"),
    ],
)
def test_what_cannot_be_asked(spec, says):
    with pytest.raises(InvalidInput, match=says):
        limits.resolve_analysis(spec)


@pytest.mark.slow
def test_the_job_reads_a_dataset_s_spans(store, settings, tiny_folder, tmp_path, clients, serve):
    serve("trainer", service.register)
    thinking = "They want a sum. I can answer that."
    spans = [{"name": "understanding", "start": 8, "end": 24}, {"name": "key", "start": 25, "end": 43}]
    rows = [
        Example(id=str(n), prompt=f"What is {n}?", thinking=thinking, answer=f"{n}.", spans=spans) for n in range(5)
    ]
    artefacts.publish(store, "checkpoints", tiny_folder, Checkpoint(name="tiny"))
    publish_examples(store, tmp_path, [*rows, Example(id="bare", prompt="Hi", answer="Ho")], "spanned")
    request = AnalyzeRequest(spec=AnalysisSpec(analysis="attention", checkpoint="tiny", dataset="spanned"))
    run = rpc(clients.trainer.Analyze, request)
    *_, last = rpc_stream(clients.runs("trainer").WatchRun, WatchRunRequest(id=run.id), 240)
    assert (last.state, last.error) == (RunState.RUN_STATE_DONE, "")
    found = rpc(clients.trainer.GetAnalysis, GetAnalysisRequest(run=run.id))
    assert [(each.name, each.n) for each in found.measures] == [("to the understanding", 5), ("to the request", 5)]
    assert all(0 < each.interval.low <= each.value <= each.interval.high < 1 for each in found.measures)
    assert found.left_out == 1
