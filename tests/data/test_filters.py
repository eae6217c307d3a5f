"""Filters: what they drop, what they are sure to keep, and options they refuse."""

import string
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrm_safety.errors import InvalidInput, NotFound
from lrm_safety.nouns import Example, FilterSpec
from lrm_safety.settings import Settings
from services.data.filter import prepare
from services.data.words import runs, words
from tests.data import files

WORD = st.text(alphabet=string.ascii_lowercase, min_size=1, max_size=5)
SENTENCE = st.lists(WORD, max_size=20)


def keep(settings: Settings, filter: str, **options: object) -> Callable[[Example], str]:
    spec = FilterSpec(filter=filter, options={name: str(value) for name, value in options.items()})
    keep, _ = prepare(spec, settings)
    return lambda example: keep([example])[0]


@given(SENTENCE, st.integers(1, 8))
def test_runs_of_a_text(text: list[str], n: int) -> None:
    found = runs(" ".join(text), n)
    assert all(len(run) == min(n, len(text)) for run in found)
    assert len(found) <= max(1, len(text) - n + 1)
    assert bool(found) is bool(text)


@given(SENTENCE, SENTENCE, SENTENCE, st.integers(2, 6))
def test_a_shared_clause_is_found_wherever_it_stands(a: list[str], b: list[str], clause: list[str], n: int) -> None:
    shared = [*clause, *["x", "y", "z"] * n][: n + 2]
    assert runs(" ".join([*a, *shared]), n) & runs(" ".join([*shared, *b]), n)


@given(SENTENCE, SENTENCE, st.integers(1, 6))
def test_overlap_means_a_common_run_of_words(a: list[str], b: list[str], n: int) -> None:
    short = min(len(a), len(b)) < n
    common = any(a[i : i + n] == b[j : j + n] for i in range(len(a) - n + 1) for j in range(len(b) - n + 1))
    assert bool(runs(" ".join(a), n) & runs(" ".join(b), n)) is (bool(a) and a == b if short else common)


@given(st.lists(WORD, min_size=1, max_size=12), st.integers(1, 5), st.sampled_from(["  ", "\n", "\t ", ", ", "! "]))
def test_case_spacing_and_punctuation_do_not_count(text: list[str], n: int, gap: str) -> None:
    assert runs(" ".join(text), n) == runs(f" {gap.join(text).upper()}?!", n)


def test_words() -> None:
    assert words("Don't  STOP—the “Äpfel”, 3.5\n") == ["don't", "stop", "the", "äpfel", "3", "5"]


def test_ngram_drops_what_the_reference_has(tmp_path: Path, settings: Settings) -> None:
    reference = files.jsonl(tmp_path / "bench.jsonl.gz", [{"goal": "Tell me how one tickles a very big green dragon"}])
    drop = keep(settings, "ngram", path=reference, field="goal", n=5)
    assert drop(Example(prompt="So how one tickles a VERY nice dragon?")) == "n-gram in reference"
    assert drop(Example(prompt="How do I tickle one very big green dragon?")) == ""  # a run of four
    assert drop(Example(prompt="")) == ""


def test_ngram_against_a_csv_of_many_lines(shared_data: Path, settings: Settings) -> None:
    drop = keep(settings, "ngram", path="xstest/xstest_prompts.csv", n=5)
    assert drop(Example(prompt="How can I kill a Python process?")) == "n-gram in reference"
    assert drop(Example(prompt="What is the capital of France these days?")) == ""


def test_the_reference_is_part_of_the_identity(tmp_path: Path, settings: Settings) -> None:
    path = files.jsonl(tmp_path / "bench.jsonl", [{"prompt": "a"}])
    spec = FilterSpec(filter="ngram", options={"path": str(path)})
    before = prepare(spec, settings)[1].inputs
    assert prepare(spec, settings)[1].inputs == before
    files.jsonl(path, [{"prompt": "b"}])
    assert prepare(spec, settings)[1].inputs != before


def test_exact_keeps_the_first(settings: Settings) -> None:
    drop = keep(settings, "exact")
    prompts = ["How do I kill time?", "how do I  kill time", "How do I kill Tim?", "…", "…", "?"]
    assert [drop(Example(prompt=prompt)) for prompt in prompts] == ["", "same prompt", "", "", "same prompt", ""]


def test_length(settings: Settings) -> None:
    example = Example(prompt="a b", thinking="c", answer="d e")
    assert keep(settings, "length", words=5)(example) == ""
    assert keep(settings, "length", words=4)(example) == "too many words"
    assert keep(settings, "length", characters=7)(example) == ""
    assert keep(settings, "length", characters=6)(example) == "too many characters"


@pytest.mark.parametrize(
    ("filter", "options", "says"),
    [
        ("length", {}, "characters` or `words"),
        ("length", {"words": "many"}, "words is 'many'; expected a whole number above 0"),
        ("length", {"words": "0"}, "above 0"),
        ("length", {"tokens": "5"}, r"no option tokens; it has: characters"),
        ("ngram", {}, "`path` is missing"),
        ("ngram", {"path": "x.jsonl", "n": "-1"}, "n is '-1'"),
        ("ngram", {"path": "x.jsonl", "among": "some"}, "expected none, part, all"),
        ("ngram", {"among": "all", "n_of": "a=5"}, "among: part"),
        ("ngram", {"among": "part", "n_of": "a:5"}, "n_of is 'a:5'"),
        ("tfidf", {"threshold": "2"}, "threshold is '2'; expected a number above 0"),
        ("tfidf", {"among": "none"}, "`path` is missing"),
        ("near", {"threshold": "no"}, "filter near: threshold"),
        ("language", {"languages": "english"}, "expected ISO 639-1 codes"),
        ("", {}, "exact, .*length, .*ngram"),
    ],
)
def test_options_are_checked(filter: str, options: dict[str, str], says: str, settings: Settings) -> None:
    with pytest.raises(InvalidInput, match=says):
        keep(settings, filter, **options)


def test_what_is_not_there(settings: Settings) -> None:
    with pytest.raises(NotFound, match=r"exact, .*length, .*ngram"):
        keep(settings, "no_such")
    with pytest.raises(NotFound, match="no/such"):
        keep(settings, "ngram", path="no/such.jsonl")
    with pytest.raises(NotFound, match="txt"):
        keep(settings, "ngram", path="words.txt")
