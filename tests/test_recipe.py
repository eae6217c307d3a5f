"""Recipes: strict, and explaining themselves."""

from itertools import pairwise
from pathlib import Path

import pytest

from lrm_safety import recipe, registry
from lrm_safety.errors import InvalidInput, NotFound
from lrm_safety.nouns import Recipe

ROOT = Path(__file__).resolve().parents[1]
WHOLE = """
model: m
dataset: {parts: [{builder: nocot, source: {source: jsonl, path: x.jsonl}}]}
training: {learning_rate: 1e-5, weight_decay: 0}
evaluation: {benchmarks: [demo_harm], attacks: [prefill]}
gate: {margins: {harm: 0.1}}
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_that_come_with_the_project_load(path: Path) -> None:
    assert recipe.load(path).name == path.stem


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("**/*.yaml")), ids=lambda path: path.stem)
def test_their_plugins_are_there(path: Path) -> None:
    done = recipe.load(path) if path.parent.name == "recipes" else Recipe(dataset=recipe.load_dataset(path))
    datasets = [done.dataset, *(stage.dataset for stage in done.stages)]
    trainings = [done.training, *(stage.training for stage in done.stages)]
    named = {
        "services.data.builders": {part.builder for each in datasets for part in each.parts},
        "services.data.sources": {part.source.source for each in datasets for part in each.parts},
        "services.data.filters": {filter_.filter for each in datasets for filter_ in each.filters},
        "services.data.selectors": {part.select for each in datasets for part in each.parts} - {""},
        "services.trainer.methods": {training.method for training in trainings} - {""},
        "services.bench.benchmarks": {each.benchmark for each in done.evaluation.benchmarks},
        "services.bench.attacks": {each.attack for each in done.evaluation.attacks},
        "services.judge.judges": {judge.judge for each in done.evaluation.benchmarks for judge in each.judges},
    }
    for folder, names in named.items():
        assert names <= {plugin.name for plugin in registry.describe(folder)}, folder


NUMBERS = (
    *("epochs", "learning_rate", "batch_size", "max_tokens", "weight_decay", "max_grad_norm", "seed", "zero_stage"),
    "warmup_ratio",
)
PUBLISHED = {  # what the studies' papers and scripts say
    "lrm_safety_study": (1, 5e-6, 48, 4096, 0, 1, 42, 2, 0),
    "lrm_safety_study_math": (1, 5e-6, 64, 4096, 0, 1, 42, 2, 0),
    "safety_tax": (5, 5e-5, 8, 32768, 1e-4, 1, 42, 3, 0),
    "safety_tax_two_stages": (5, 5e-5, 8, 32768, 1e-4, 1, 42, 3, 0),
    "star1": (5, 1e-5, 128, 8192, 1e-4, 0, 2002, 3, 0.025),
    "safekey": (5, 1e-5, 128, 8192, 1e-4, 0, 2002, 3, 0.04),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_presets_hold_the_studies_numbers(name: str) -> None:
    training = recipe.load(ROOT / "recipes" / f"{name}.yaml").training
    assert tuple(getattr(training, number) for number in NUMBERS) == PUBLISHED[name]
    assert training.adam_beta2 == (0.999 if name.startswith("lrm") else 0)  # 0: 0.95
    assert training.batch_size % (training.micro_batch_size * training.processes) == 0


def test_the_flags_of_star1_are_commands_in_its_recipe() -> None:
    path = ROOT / "recipes" / "star1.yaml"
    text = path.read_text(encoding="utf-8").replace("\\\n#", "")
    commands = [line.split() for line in text.splitlines() if line.startswith("#   lrm run ")]
    changes = [[after for before, after in pairwise(words) if before == "--set"] for words in commands]
    done = [recipe.load(path, change) for change in ([], *changes)]
    assert [each.training.thinking for each in done] == ["keep", "empty", "none"]
    assert done[2].model == done[2].dataset.tokenizer != done[0].model
    assert {each.training.epochs for each in done} == {5}


def test_the_first_stage_of_safety_tax_holds_the_numbers_of_s1() -> None:
    [stage] = recipe.load(ROOT / "recipes" / "safety_tax_two_stages.yaml").stages
    training = stage.training
    assert (training.epochs, training.learning_rate, training.batch_size) == (5, 1e-5, 16)
    assert (training.warmup_ratio, training.weight_decay, training.max_tokens) == (0.05, 1e-4, 32768)


def test_a_waiver_may_name_its_last_day_as_a_date(tmp_path: Path) -> None:
    gate = "{method: sequential, margins: {harm: 0.1}, waivers: [{what: harm, who: me, why: new, until: 2030-01-31}]}"
    done = recipe.load(written(tmp_path, WHOLE.replace("{margins: {harm: 0.1}}", gate)))
    assert done.gate.waivers[0].until == "2030-01-31"
    assert (done.gate.claim, done.gate.max_truncated) == ("wider", 0.1)


def test_defaults_are_written_down_and_zero_is_kept(tmp_path: Path) -> None:
    done = recipe.load(written(tmp_path, WHOLE))
    assert done.name == done.training.name == done.dataset.name == "mine"
    assert done.training.learning_rate == 1e-5
    assert done.training.weight_decay == 0 and done.training.HasField("weight_decay")
    assert done.training.warmup_ratio == 0.05
    assert list(done.evaluation.benchmarks[0].attacks) == ["none"]
    assert {attack.name: attack.attack for attack in done.evaluation.attacks} == {"prefill": "prefill", "none": "none"}
    assert done.gate.alpha == 0.05


def test_a_value_can_be_set_from_outside(tmp_path: Path) -> None:
    path = written(tmp_path, WHOLE)
    done = recipe.load(path, ["training.epochs=3", "training.learning_rate=2e-5", "gate.margins={harm: 0.2}", "name=x"])
    assert (done.training.epochs, done.training.learning_rate, done.name) == (3, 2e-5, "x")
    assert done.gate.margins["harm"] == 0.2
    for change in ("training.epochs", "model.name=x"):
        with pytest.raises(InvalidInput, match=r"expected section\.key=value"):
            recipe.load(path, [change])
    with pytest.raises(InvalidInput, match="is not YAML"):
        recipe.load(path, ["training.legacy=[a"])
    with pytest.raises(InvalidInput, match="unknown key 'epoch'"):
        recipe.load(path, ["training.epoch=3"])


def test_stages_are_trainings_of_their_own(tmp_path: Path) -> None:
    stage = "stages: [{dataset: {parts: [{builder: nocot, source: {source: jsonl, path: y}}]}, training: {epochs: 2}}]"
    done = recipe.load(written(tmp_path, WHOLE + stage))
    [first] = done.stages
    assert (first.training.name, first.dataset.name, first.training.epochs) == ("mine_stage_1", "mine_stage_1", 2)
    assert first.training.method == "sft"
    with pytest.raises(InvalidInput, match="`stages` come before `training`"):
        recipe.load(written(tmp_path, f"model: m\nevaluation: {{benchmarks: [x]}}\n{stage}"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("modle: x", "unknown key 'modle'; did you mean 'model'"),
        ("model: [1]", "model: expected str, got list"),
        ("model: m\nevaluation: {benchmarks: x}", "benchmarks: expected a list"),
        ("model: m\nevaluation: {benchmarks: [{benchmark: x, limit: few}]}", r"benchmarks\[0\]: limit: expected int"),
        ("model: m\nevaluation: {benchmarks: [{benchmark: x, limit: true}]}", "expected int, got bool"),
        ("model: m\nevaluation: {benchmarks: [{benchmark: x, limit: 99999999999}]}", "out of range|Value"),
        ("a: [", "line 1: not YAML"),
        ("- a", "expected a mapping"),
        ("evaluation: {benchmarks: [x]}", "`model` is missing"),
        ("model: m", "`evaluation.benchmarks` is empty"),
        ("model: m\ntraining: {epochs: 1}\nevaluation: {benchmarks: [x]}", "go together"),
        ("model: m\nevaluation: {benchmarks: [x]}\ngate: {margins: {hram: 0.1}}", "hram is no role"),
        ("model: m\nevaluation: {benchmarks: [x]}\ngate: {margins: {harm: 10}}", r"expected a share in \[0, 1\]"),
        ("model: m\nevaluation: {benchmarks: [x]}\ngate: {method: soon}", "gate.method is 'soon'; expected fixed or"),
    ],
)
def test_mistakes_are_named_with_their_place(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as caught:
        recipe.load(written(tmp_path, text))
    assert "mine" in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no recipe"):
        recipe.load(tmp_path / "none.yaml")


def test_a_dataset_needs_no_model(tmp_path: Path) -> None:
    text = "dataset: {seed: 3, parts: [{builder: nocot}]}"
    spec = recipe.load_dataset(written(tmp_path, text))
    assert (spec.name, spec.seed, spec.parts[0].name) == ("mine", 3, "nocot_0")
    whole = "\n".join([text, "model: m", "training: {epochs: 1}", "evaluation: {benchmarks: [x]}"])
    assert recipe.load(written(tmp_path, whole)).dataset == spec == recipe.load_dataset(written(tmp_path, whole))
    with pytest.raises(InvalidInput, match=r"dataset\.parts is empty"):
        recipe.load_dataset(written(tmp_path, "model: m"))
