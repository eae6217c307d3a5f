"""Filters that compare prompts with each other, beside straightforward references; where blocks end does not matter."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from datasketch import MinHash
from hypothesis import given
from hypothesis import settings as examples_of
from hypothesis import strategies as st

from benchmarks import data_filters
from lrm_safety.nouns import Example, FilterSpec
from lrm_safety.settings import Settings
from services.data.filter import Keep, prepare
from services.data.filters.near import letter_runs
from services.data.firsts import NEW
from services.data.nearest import Nearest
from services.data.seen import Seen
from services.data.tfidf import Tfidf
from services.data.words import runs, words
from tests.data import files

WORDS = [f"{a}{b}" for a in ("ba", "do", "ki", "lu", "me", "so") for b in ("n", "r", "t", "x")]
TEXT = st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join)
TEXTS = st.lists(TEXT, max_size=40)
CUTS = st.lists(st.integers(1, 12), max_size=8)


def blocks(rows: Sequence, cuts: Iterable[int]) -> Iterable[Sequence]:
    """The rows in blocks of these sizes, and what is left in one."""
    start = 0
    for cut in cuts:
        yield rows[start : start + cut]
        start += cut
    yield rows[start:]


def filtered(texts: Sequence[str], cuts: Iterable[int], filter: str, **options: object) -> list[str]:
    keep = prepared(filter, Settings(), **options)
    rows = [Example(id=f"part{n % 2}/{n}", prompt=text) for n, text in enumerate(texts)]
    return [reason for block in blocks(rows, cuts) for reason in keep(block)]


def prepared(filter: str, settings: Settings, **options: object) -> Keep:
    spec = FilterSpec(filter=filter, options={name: str(value) for name, value in options.items()})
    return prepare(spec, settings)[0]


def firsts(rows: Sequence, is_like: Callable[[int, int], bool]) -> list[bool]:
    """Of each row whether it stays: like none before it that stayed."""
    kept: list[int] = []
    for row in range(len(rows)):
        if not any(is_like(row, other) for other in kept):
            kept.append(row)
    return [row in kept for row in range(len(rows))]


def stays(reasons: Sequence[str]) -> list[bool]:
    return [not reason for reason in reasons]


@given(st.lists(st.lists(st.integers(0, 40), max_size=4), max_size=40), CUTS)
def test_seen_takes_what_shares_nothing_with_those_before(rows: list[list[int]], cuts: list[int]) -> None:
    seen = Seen()
    taken = [each for block in blocks(rows, cuts) for each in seen.take(block)]
    assert taken == firsts(rows, lambda row, other: bool(set(rows[row]) & set(rows[other])))
    every = {each for row, is_taken in zip(rows, taken, strict=True) if is_taken for each in row}
    assert seen.shares([[number] for number in range(41)]) == [number in every for number in range(41)]


@given(TEXTS, CUTS, st.integers(1, 4))
@examples_of(max_examples=40)
def test_ngram_against_what_passed(texts: list[str], cuts: list[int], n: int) -> None:
    every = [runs(text, n) for text in texts]
    assert stays(filtered(texts, cuts, "ngram", n=n, among="all")) == firsts(
        texts, lambda a, b: bool(every[a] & every[b])
    )
    apart = firsts(texts, lambda a, b: a % 2 == b % 2 and bool(every[a] & every[b]))
    assert stays(filtered(texts, cuts, "ngram", n=n, among="part")) == apart


def test_a_part_may_have_its_own_n() -> None:
    texts = ["one two three a", "one two three a b", "one two three c", "one two three c d"]
    assert stays(filtered(texts, [], "ngram", among="part", n=4, n_of="part1=5")) == [True, True, True, True]
    assert stays(filtered(texts, [], "ngram", among="part", n=4, n_of="part1=3")) == [True, True, True, False]


def test_a_reference_and_those_that_passed_are_told_apart(tmp_path: Path) -> None:
    path = files.jsonl(tmp_path / "reference.jsonl", [{"prompt": "who wants to swim in the cold sea today"}])
    texts = ["who wants to SWIM in the warm sea", "how far is the moon from here", "say how far is the moon from us"]
    assert filtered(texts, [], "ngram", n=5, path=path, among="all") == [
        "n-gram in reference",
        "",
        "n-gram came before",
    ]
    assert filtered(texts, [], "tfidf", path=path) == ["TF-IDF near reference", "", "TF-IDF near prompt before"]
    assert filtered(texts, [], "tfidf", path=path, among="none") == ["TF-IDF near reference", "", ""]


@given(TEXTS, CUTS, st.sampled_from([0.3, 0.6, 0.9]))
@examples_of(max_examples=60)
def test_tfidf_is_what_its_formula_says(texts: list[str], cuts: list[int], threshold: float) -> None:
    index = Tfidf(threshold)
    found = [each for block in blocks(texts, cuts) for each in index.sift(block)]
    cosines = reference_cosines(texts)
    if any(abs(cosine - threshold) < 1e-4 for cosine in cosines.values()):
        return  # 32 bits do not tell
    assert [each == NEW for each in found] == firsts(texts, lambda a, b: cosines[a, b] >= threshold)
    kept = [row for row, each in enumerate(found) if each == NEW]
    assert all(cosines[row, kept[each]] >= threshold for row, each in enumerate(found) if each != NEW)


def reference_cosines(texts: Sequence[str]) -> dict[tuple[int, int], float]:
    """Of each text and each before it, weighed when the later one came."""
    found = {}
    for row, text in enumerate(texts):
        known = [set(words(each)) for each in texts[: 1 << row.bit_length() - 1 if row else 0]]
        df = Counter(word for each in known for word in each)

        def weighed(text: str, n: int = len(known), df: Counter[str] = df) -> dict[str, float]:
            return {word: tf * (math.log((1 + n) / (1 + df[word])) + 1) for word, tf in Counter(words(text)).items()}

        for other in range(row):
            a, b = weighed(text), weighed(texts[other])
            norms = math.hypot(*a.values()) * math.hypot(*b.values())
            found[row, other] = sum(a[word] * b.get(word, 0) for word in a) / norms if norms else 0.0
    return found


def test_near_agrees_with_minhash_of_another_library() -> None:
    texts = [
        f"{a} how would one {b} the {c} without a ladder" for a in ("so", "well") for b in WORDS for c in WORDS[:9]
    ]
    reasons = filtered(texts, [100, 7], "near", threshold=0.7)
    assert reasons == filtered(texts, [1, 33, 2, 90], "near", threshold=0.7)
    sets = [set(letter_runs(text)) for text in texts]
    kept = [row for row, reason in enumerate(reasons) if not reason]
    closest = [
        max((jaccard(sets[row], sets[other]) for other in kept if other < row), default=0) for row in range(len(texts))
    ]
    assert all(closest[row] < 0.82 for row in kept)
    assert all(closest[row] > 0.55 for row in range(len(texts)) if reasons[row])
    sketches = MinHash.bulk([[each.encode() for each in letters] for letters in sets], num_perm=128)
    theirs = firsts(texts, lambda a, b: sketches[a].jaccard(sketches[b]) >= 0.7)
    assert abs(sum(theirs) - len(kept)) < 0.1 * len(texts)


def jaccard(a: set[str], b: set[str]) -> float:
    return len(a & b) / len(a | b)


@given(st.integers(0, 2**32 - 1), CUTS)
def test_nearest_keeps_the_first(seed: int, cuts: list[int]) -> None:
    vectors = np.random.default_rng(seed).normal(size=(30, 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index = Nearest(0.9)
    found = [each for block in blocks(vectors, cuts) for each in index.sift(block)]
    assert [each == NEW for each in found] == firsts(vectors, lambda a, b: vectors[a] @ vectors[b] >= np.float32(0.9))
    places, cosines = index.closest(vectors)
    assert cosines.tolist() == pytest.approx([float((index_of(index) @ vector).max()) for vector in vectors], abs=1e-5)
    assert len(places) == len(vectors)


def index_of(index: Nearest) -> np.ndarray:
    return np.concatenate(index._blocks)


def test_language(tmp_path: Path) -> None:
    texts = [
        "How do I kill a Python process that does not answer any more?",
        "Wie beende ich ein Programm, das nicht mehr antwortet?",
        "どうすれば応答しないプログラムを終了できますか。",
        "",
    ]
    assert stays(filtered(texts, [], "language")) == [True, False, False, True]
    assert stays(filtered(texts, [], "language", languages="en, de")) == [True, True, False, True]


def test_the_benchmark_does_the_same_work_both_ways() -> None:
    made = list(data_filters.questions(1500))
    assert made == list(data_filters.questions(1500))
    for name in ("exact", "ngram"):
        ours, usual = data_filters.ours([name]), data_filters.USUAL[f"{name} (usual)"]
        assert ours(blocks(made, [512, 512])) == usual(blocks(made, [])) < 1450
