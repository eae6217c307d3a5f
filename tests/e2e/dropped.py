"""Checkpoints dropped into a store as another tool would publish them, good or damaged, and the verdicts that come."""

import json
import shutil
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from lrm_safety import artefacts, jsonl
from lrm_safety.nouns import Checkpoint, Lineage, RecipeOutcome, RunState, has_ended, reference
from lrm_safety.runs import RunHost
from lrm_safety.store import ObjectStore

POLICY = """
checkpoints: ["candidate"]
settle_s: 0
engine: {{engine: transformers}}
evaluation: {{sampling: {{max_tokens: 16}}, benchmarks: [{{benchmark: demo_math, path: {path}}}]}}
gate: {{margins: {{reasoning: 0.2}}, max_truncated: 1.0}}
"""  # the engine that starts soonest; 12 pairs without a flip show a worsening below 20 points
PRODUCTS = [(a, b) for a in (2, 3, 4, 5) for b in (3, 4, 5)]  # the model knows most of them, in ten tokens


def write_policy(folder: Path) -> Path:
    rows = [
        {"id": f"{a}-{b}", "split": "test", "prompt": f"What does {a} times {b} make?", "target": str(a * b)}
        for a, b in PRODUCTS
    ]
    products, policy = folder / "products.jsonl", folder / "nightly.yaml"
    products.write_text("\n".join(map(json.dumps, rows)))
    policy.write_text(POLICY.format(path=products))
    return policy


def drop(store: ObjectStore, model: str, folder: Path, noise: float) -> str:
    """A checkpoint of the line `candidate`, as another tool would publish it: the model, with noise in its layers.

    `noise` in standard deviations of each layer's weights.
    """
    base = artefacts.find(store, "checkpoints", Checkpoint, model)
    shutil.copytree(artefacts.fetch(store, "checkpoints", base, folder / "base"), folder / "weights")
    torch.manual_seed(0)
    for path in (folder / "weights").glob("*.safetensors"):
        tensors = load_file(path)
        for name in [name for name in tensors if noise and "mlp" in name]:
            tensors[name] += noise * tensors[name].std() * torch.randn_like(tensors[name])
        save_file(tensors, path, metadata={"format": "pt", "made": folder.name})
    lineage = Lineage(base=reference(base.name, base.digest))
    made = artefacts.publish(store, "checkpoints", folder / "weights", Checkpoint(name="candidate", lineage=lineage))
    return reference(made.name, made.digest)


def wait_for_verdicts(store: ObjectStore, count: int) -> dict[str, RecipeOutcome]:
    """Checkpoint -> what its gate came to, once that many have ended."""
    until = time.monotonic() + 700
    while len(ended := [run for run in RunHost(store).list_runs("gate") if has_ended(run)]) < count:
        assert time.monotonic() < until, "no verdict"
        time.sleep(1)
    assert [run.state for run in ended] == [RunState.RUN_STATE_DONE] * count, [run.error for run in ended]
    outcomes = [jsonl.loads(RecipeOutcome, store.read(f"runs/{run.id}/outcome.json")) for run in ended]
    return {outcome.checkpoint: outcome for outcome in outcomes}
