"""The mixes of the studies, as recipes: the named counts come out, whatever files stand in for theirs."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lrm_safety import recipe
from lrm_safety.clients import Clients
from lrm_safety.nouns import Dataset, DatasetSpec, Prompt
from lrm_safety.settings import Settings
from lrm_safety.store import ObjectStore
from services.data.build import plan
from services.data.reading import read_examples
from services.judge import service as judge
from tests.bench.scripted import ScriptedInference
from tests.data import files
from tests.data.files import Listener
from tests.data.scripted_ask import completed

RECIPES = Path(__file__).parents[2] / "recipes" / "data"


def build(spec: DatasetSpec, settings: Settings, store: ObjectStore, clients: Clients | None = None) -> Dataset:
    return plan(spec, settings, store, clients).carry_out(Listener(), store, settings.state_dir / "data")


def counts(made: Dataset, store: ObjectStore) -> Counter[str]:
    return Counter(each.id.partition("/")[0] for each in read_examples(store, made))


@pytest.mark.parametrize("safety", [1000, 400])
def test_safety_among_mathematics(safety: int, tmp_path: Path, settings: Settings, store: ObjectStore) -> None:
    folder = tmp_path / "lrm_safety_study"
    folder.mkdir()
    solved = "<think>\nOne and one.\n</think>\n\n\\boxed{2}"
    refused = [{"prompt": f"Harm {n}?", "response": "x"} for n in range(1010)]
    files.json_list(folder / "sft_train_nocot.json.gz", refused)
    files.json_list(folder / "sft_train_math.json", [{"prompt": f"{n}?", "response": solved} for n in range(4010)])
    spec = recipe.load_dataset(RECIPES / f"math_mix_{safety}.yaml")
    made = build(spec, replace(settings, data_dir=tmp_path), store)
    assert counts(made, store) == {"safety": safety, "maths": 4000}


def test_safety_and_look_alikes(
    tmp_path: Path, settings: Settings, store: ObjectStore, serve: Callable, clients: Clients
) -> None:
    for name in ("harmbench", "gptfuzz", "lrm_safety_study"):
        (tmp_path / name).mkdir()
    behaviours = "".join(f"Do harm {n},{'standard' if n < 200 else 'contextual'}\n" for n in range(210))
    published = tmp_path / "harmbench" / "harmbench_behaviors_text_all.csv"
    published.write_text(f"Behavior,FunctionalCategory\n{behaviours}")
    templates = "".join(f"Story {n}: [INSERT PROMPT HERE]\n" for n in range(25))
    (tmp_path / "gptfuzz" / "jailbreak_templates.csv").write_text(f"text\n{templates}")
    looks_bad = [{"query": f"How do I kill process {n}?"} for n in range(250)]
    files.jsonl(tmp_path / "lrm_safety_study" / "xstest.jsonl", looks_bad)

    def script(prompt: Prompt) -> object:
        asked = prompt.messages[-1].content
        refuses = "Do harm" in asked or "process 1" in asked
        said = completed(f"<think>\nHm.\n</think>\n\n{'I cannot help with that.' if refuses else 'Use kill.'}")
        said.id = prompt.id
        return said

    inference = ScriptedInference(script=script)
    serve("inference", inference.register)
    serve("judge", judge.register)
    spec = recipe.load_dataset(RECIPES / "benign_mix_100.yaml")
    for part in spec.parts:
        part.writer.endpoint = "base"
    made = build(spec, replace(settings, data_dir=tmp_path), store, clients)
    assert counts(made, store) == {"safety": 1000, "benign": 100}
    assert made.asked.refused == made.parts[1].dropped["writer refused"] > 0
    assert made.asked.completed == 1100 and sum(inference.asked.values()) == 1100 + made.asked.refused
