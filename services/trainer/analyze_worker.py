"""Looks inside models, as SafeKey's study does (arXiv 2505.16186): the job behind TrainerService.Analyze.

    python -m services.trainer.analyze_worker analysis-1f3a… 1

attention: in the last layer, mean over heads, how much the tokens of the key sentence attend to the model's own
understanding of the request, and to the request itself. divergence: KL(checkpoint || base) of the next-token
distributions after the first k tokens of the response, for the k of the study's figure.
"""

import random
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from lrm_safety import artefacts, stats
from lrm_safety.encoding import Encoded
from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import Analysis, AnalysisSpec, Checkpoint, Interval, Measure, TrainingSpec
from services.trainer.attempt import Attempt, carry_out, read_examples
from services.trainer.encoding import encode_all

KEY_TOKENS = 500  # of an example, at most
PREFILLS = (4, 6, 8, 10, 12, 15, 18, 22, 26, 30, 35, 40, 50)  # tokens of the response
SMOOTHING = 1e-10
SEED = 0
LEVEL = 0.95

Values = Mapping[str, float]  # of one example, by measure


def work(attempt: Attempt) -> None:
    """From the run's spec to an Analysis in its ledger."""
    spec = attempt.run.spec.analysis
    attempt.ledger.progress("preparing", 0, 1, "examples")
    folder = _fetched(attempt, spec.checkpoint)
    asked = TrainingSpec(dataset=spec.dataset, thinking="keep", max_tokens=spec.max_tokens, template=spec.template)
    encoded = encode_all(read_examples(attempt, spec.dataset), folder, asked)
    examples = list(encoded.examples)
    if 0 < spec.limit < len(examples):
        examples = random.Random(SEED).sample(examples, spec.limit)
    measure = _measure(spec, folder, attempt)
    found: list[Values] = []
    for number, example in enumerate(examples, start=1):
        found += [values] if (values := measure(example)) else []
        attempt.ledger.progress(spec.analysis, number, len(examples), "examples")
    if not found:
        raise InvalidInput(
            f"no example of {spec.dataset} can be used: attention needs the spans `understanding` and `key`, "
            "divergence a response; see `lrm data inspect`"
        )
    left_out = encoded.dropped + len(examples) - len(found)
    attempt.ledger.finish_analysis(Analysis(spec=spec, measures=summed_up(found), left_out=left_out))


def summed_up(found: Sequence[Values]) -> list[Measure]:
    """The mean over examples of each measure, with a bootstrap interval; an example may lack some."""
    measures = []
    for name in dict.fromkeys(name for values in found for name in values):
        numbers = np.array([values[name] for values in found if name in values])
        low, high = stats.bootstrap(numbers, np.arange(len(numbers)), LEVEL, SEED)
        interval = Interval(low=low, high=high, level=LEVEL, method="bootstrap")
        measures.append(Measure(name=name, value=float(numbers.mean()), n=len(numbers), interval=interval))
    return measures


def attention(model: PreTrainedModel, example: Encoded) -> Values:
    """Shares in [0, 1] of the key sentence's attention; empty for an example without the spans."""
    understanding, key = example.spans.get("understanding"), example.spans.get("key")
    if understanding is None or key is None or key[0] == key[1]:
        return {}
    weights = _last_attention(model, example.ids[: key[1]])
    rows = weights[key[0] : min(key[1], key[0] + KEY_TOKENS)]
    return {
        "to the understanding": float(rows[:, slice(*understanding)].sum(1).mean()),
        "to the request": float(rows[:, : example.start].sum(1).mean()),
    }


def divergence(model: PreTrainedModel, base: PreTrainedModel, example: Encoded) -> Values:
    """KL in nats after each prefill that the response is long enough for."""
    lengths = [k for k in PREFILLS if example.start + k <= len(example.ids)]
    if not lengths:
        return {}
    ids = torch.tensor([example.ids[: example.start + lengths[-1]]], device=model.device)
    at = [example.start + k - 1 for k in lengths]
    with torch.no_grad():
        mine, other = (each(input_ids=ids).logits[0, at].double().softmax(-1) + SMOOTHING for each in (model, base))
    found = (mine * (mine / other).log()).sum(-1).tolist()
    return {f"after {k} tokens": value for k, value in zip(lengths, found, strict=True)}


def _measure(spec: AnalysisSpec, folder: Path, attempt: Attempt) -> Callable[[Encoded], Values]:
    if spec.analysis == "attention":
        model = _load(folder, attn_implementation="eager")
        return lambda example: attention(model, example)
    model, base = _load(folder), _load(_fetched(attempt, spec.base))
    if model.config.vocab_size != base.config.vocab_size:
        raise InvalidInput(
            f"{spec.checkpoint} and {spec.base} have different vocabularies; compare models of one family"
        )
    return lambda example: divergence(model, base, example)


def _last_attention(model: PreTrainedModel, ids: list[int]) -> torch.Tensor:
    """[tokens, tokens]: the last layer's weights, mean over heads. Other layers' are let go at once."""
    layers: Any = getattr(model.base_model, "layers", None)
    if layers is None:
        raise InvalidInput(f"attention cannot be read from {type(model).__name__}: it has no list of layers")
    kept: list[torch.Tensor] = []
    hook = layers[-1].self_attn.register_forward_hook(lambda _module, _inputs, output: kept.append(output[1]))
    try:
        with torch.no_grad():
            model(input_ids=torch.tensor([ids], device=model.device), use_cache=False)
    finally:
        hook.remove()
    return kept[0][0].float().mean(0)


def _fetched(attempt: Attempt, checkpoint: str) -> Path:
    found = artefacts.find(attempt.store, "checkpoints", Checkpoint, checkpoint)
    return artefacts.fetch(attempt.store, "checkpoints", found, attempt.settings.state_dir / "models")


def _load(folder: Path, **how: str) -> PreTrainedModel:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype="auto", local_files_only=True, use_safetensors=True, **how
    )
    return model.to(device).train(False)  # type: ignore[no-any-return]


if __name__ == "__main__":
    sys.exit(carry_out(work))
