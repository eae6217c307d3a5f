"""The studies' published sets, as they are imported: counts and shares are those that were measured on them."""

from collections.abc import Callable
from pathlib import Path

from lrm_safety.clients import Clients
from lrm_safety.nouns import Dataset, PartSpec
from lrm_safety.settings import Settings
from lrm_safety.store import ObjectStore
from services.bench import service as bench
from services.data.build import plan
from services.data.reading import read_examples
from tests.data.files import Listener, dataset, part

STAR1_SOURCES = {
    "SaladBench": 298,
    "wildjailbreak": 261,
    "ALERT": 139,
    "PKUSafeRLHF": 94,
    "BeaverTails": 67,
    "SafetyInstructions": 37,
    "HarmBench": 31,
    "AttaQ": 24,
    "UltraSafety": 19,
    "HExPHI": 16,
    "SimpleSafetyTests": 4,
}
STAR1_CATEGORIES = {
    "Illicit": 381,
    "Privacy": 229,
    "Harassment": 165,
    "Intellectual": 159,
    "Misinformation": 152,
    "Violence": 93,
    "Self-Harm": 85,
    "Sexual": 52,
}


def built(one: PartSpec, settings: Settings, store: ObjectStore) -> Dataset:
    return plan(dataset(one), settings, store).carry_out(Listener(), store, settings.state_dir / "data")


def test_star1(shared_data: Path, settings: Settings, store: ObjectStore) -> None:
    made = built(part("star1/STAR-1.json.gz", "star1_file", "json"), settings, store)
    shares = {each.tag: dict(each.examples) for each in made.shares}
    few = {source: n for source, n in shares["source"].items() if source not in STAR1_SOURCES}
    assert made.examples == 1000 and sum(shares["source"].values()) == 1000
    assert {source: shares["source"][source] for source in STAR1_SOURCES} == STAR1_SOURCES
    assert set(few.values()) == {1, 2} and len(few) == 7
    found = {
        word: sum(n for name, n in shares["category"].items() if name.startswith(word)) for word in STAR1_CATEGORIES
    }
    assert found == STAR1_CATEGORIES and len(shares["category"]) == len(STAR1_CATEGORIES)
    labels = [example.tags["category"].count(";") + 1 for example in read_examples(store, made)]
    assert [labels.count(n) for n in (1, 2, 3, 4)] == [700, 285, 14, 1]


def test_nocot_has_one_response(shared_data: Path, settings: Settings, store: ObjectStore) -> None:
    path = "lrm_safety_study/sft_train_nocot.json.gz"
    made = built(part(path, "star1_file", "json", fields={"question": "prompt"}), settings, store)
    examples = list(read_examples(store, made))
    assert len(examples) == 1000 and {example.thinking for example in examples} == {""}
    assert len({example.answer for example in examples}) == 1


def test_what_is_left_is_compared_with_every_benchmark(
    shared_data: Path, settings: Settings, serve: Callable, clients: Clients, store: ObjectStore
) -> None:
    """Over real gRPC: a set made of a benchmark shares all of it; the manifest says so of each benchmark."""
    serve("bench", bench.register)
    spec = dataset(part("jailbreakbench/harmful-behaviors.csv", "question", "csv", fields={"prompt": "Goal"}))
    made = plan(spec, settings, store, clients).carry_out(Listener(), store, settings.state_dir / "data")
    overlaps = {each.benchmark: each for each in made.overlaps}
    assert (overlaps["jailbreakbench"].shared, overlaps["jailbreakbench"].examples) == (100, 100)
    assert overlaps["math500"].shared == 0 and not overlaps["math500"].unchecked
    assert {"strongreject", "xstest", "gsm8k", "advbench"} < set(overlaps)


def test_without_bench_the_manifest_says_that_nothing_was_compared(settings: Settings, store: ObjectStore) -> None:
    (only,) = built(part("harm", source="demo", count=10), settings, store).overlaps
    assert (only.benchmark, only.unchecked) == ("bench", "the bench service does not answer")
