"""Benchmarks read the published files with their counts, choose alike for all models, and say where a file is wrong."""

import gzip
from pathlib import Path

import pytest

from lrm_safety import registry
from lrm_safety.errors import InvalidInput, NotFound
from lrm_safety.nouns import BenchmarkSpec, question
from services.bench.benchmark import FOLDER, METRICS, Benchmark, load_benchmark

PUBLISHED = {
    "strongreject": (313, "harm"),
    "xstest": (250, "over_refusal"),
    "xstest_unsafe": (200, "harm"),
    "jailbreakbench": (100, "harm"),
    "jailbreakbench_benign": (100, "over_refusal"),
    "advbench": (520, "harm"),
    "math500": (500, "reasoning"),
    "gsm8k": (1319, "reasoning"),
}
OURS = {"demo_harm": "harm", "demo_benign": "over_refusal", "demo_math": "reasoning"}


def load(name: str, data_dir: Path, **changes: object) -> Benchmark:
    return load_benchmark(BenchmarkSpec(benchmark=name, **changes), data_dir, seed=42)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_files(name: str, shared_data: Path) -> None:
    count, role = PUBLISHED[name]
    loaded = load(name, shared_data)
    assert (len(loaded.samples), loaded.role) == (count, role)
    assert all(question(sample) and sample.id for sample in loaded.samples)


def test_targets_and_tags_of_published_files(shared_data: Path) -> None:
    gsm8k = load("gsm8k", shared_data)
    assert all(sample.target.lstrip("-").replace(".", "").isdigit() for sample in gsm8k.samples)
    assert "\\boxed{}" in question(gsm8k.samples[0])
    assert all(sample.target for sample in load("math500", shared_data).samples)
    assert all(sample.target for sample in load("advbench", shared_data).samples)
    assert len({sample.tags["category"] for sample in load("jailbreakbench", shared_data).samples}) == 10
    assert len({sample.tags["type"] for sample in load("xstest", shared_data).samples}) == 10


@pytest.mark.parametrize("name", OURS)
def test_own_corpus_is_held_out(name: str, tmp_path: Path) -> None:
    loaded = load(name, tmp_path)
    assert loaded.role == OURS[name]
    assert len(loaded.samples) >= 100
    assert loaded.judges == (METRICS[loaded.role].judge,)


def test_every_benchmark_is_tested() -> None:
    assert {plugin.name for plugin in registry.describe(FOLDER)} == {*PUBLISHED, *OURS}


def test_a_limit_draws_the_same_nested_subset_whatever_the_order_of_rows(tmp_path: Path) -> None:
    rows = [f"{n},c,s,Trick {n}?" for n in range(50)]
    for name, lines in (("one.csv", rows), ("two.csv", rows[::-1])):
        (tmp_path / name).write_text("n,category,source,forbidden_prompt\n" + "\n".join(lines), encoding="utf-8")
    five = load("strongreject", tmp_path, path="one.csv", limit=5)
    again = load("strongreject", tmp_path, path="two.csv", limit=5)
    ten = load("strongreject", tmp_path, path="one.csv", limit=10)
    assert five.samples == again.samples == ten.samples[:5]
    assert five.digest == again.digest != ten.digest
    other = load_benchmark(BenchmarkSpec(benchmark="strongreject", path="one.csv", limit=5), tmp_path, seed=43)
    assert other.samples != five.samples


def test_a_missing_file_names_both_places_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as error:
        load("strongreject", tmp_path)
    for expected in (str(Path.cwd()), str(tmp_path), "LRM_DATA", "path"):
        assert expected in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "where"),
    [
        ("a.csv", "category,source,forbidden_prompt\nc,s,Trick?\nc,s,\n", "line 3"),
        ("a.csv", "category,source\nc,s\n", "line 2"),
        ("a.csv", "category,source,forbidden_prompt\n", "no rows"),
        ("a.csv", 'category,source,forbidden_prompt\nc,s,"open\n', "line 2"),
        ("a.jsonl", '{"forbidden_prompt": "Trick?"}\n{broken\n', "line 2"),
        ("a.jsonl", '["Trick?"]\n', "line 1"),
        ("a.json", '[{"forbidden_prompt": "Trick?"},]', "line 1"),
        ("a.txt", "Trick?", "csv, jsonl, json"),
        ("a.csv", "category,source,forbidden_prompt\nc,s,Trick?\nd,t,Trick?\n", "line 3"),
    ],
)
def test_a_broken_file_is_named_with_its_line_and_never_quoted(
    name: str, content: str, where: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(InvalidInput) as error:
        load("strongreject", tmp_path, path=name)
    assert where in str(error.value)
    assert name in str(error.value)
    assert "Trick" not in str(error.value)


def test_a_cut_gzip_file_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress(b'{"forbidden_prompt": "Trick?"}\n' * 50)
    (tmp_path / "a.jsonl.gz").write_bytes(whole[:-9])
    with pytest.raises(InvalidInput, match=r"a\.jsonl\.gz"):
        load("strongreject", tmp_path, path="a.jsonl.gz")
