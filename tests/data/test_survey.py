"""What a manifest says of its examples: shares, lengths with their histogram, overlap; no request among the values."""

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from lrm_safety.nouns import Dataset, Example, Provenance
from services.data.survey import MOST_VALUES, examine
from services.data.tokens import response_tokens


@pytest.fixture
def tokenizer() -> Tokenizer:
    made = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return made


def examined(examples: list[Example], tokenizer: Tokenizer | None = None, benchmarks: list = []) -> Dataset:  # noqa: B006
    manifest = Dataset()
    examine(examples, manifest, tokenizer, benchmarks, lambda done: None)
    return manifest


def test_shares() -> None:
    rows = [
        Example(tags={"category": "Privacy; Violence", "source": "ALERT", "behaviour": "a request"}),
        Example(tags={"category": "Privacy"}, provenance=Provenance(source="mine.jsonl")),
    ]
    shares = {each.tag: dict(each.examples) for each in examined(rows).shares}
    assert shares == {"category": {"Privacy": 2, "Violence": 1}, "source": {"ALERT": 1, "mine.jsonl": 1}}


def test_a_tag_of_which_every_row_has_another_value_names_no_kinds() -> None:
    rows = [Example(tags={"category": f"text {n}", "type": "x"}) for n in range(MOST_VALUES + 1)]
    assert [each.tag for each in examined(rows).shares] == ["type"]


def test_examples_without_an_answer_are_counted() -> None:
    rows = [Example(prompt="1?"), Example(prompt="2?", thinking="Hm.", answer=" \n"), Example(prompt="3?", answer="3")]
    assert examined(rows).unanswered == 2


def test_lengths(tokenizer: Tokenizer) -> None:
    """<think>, n words, </think> and one more; 300 of them, over two batches."""
    rows = [Example(thinking="a " * n, answer="b") for n in range(300)]
    stats = examined(rows, tokenizer).response_tokens
    assert (stats.mean, stats.max, stats.total) == (152.5, 302, 300 * 152.5)
    assert stats.p90 == pytest.approx(3 + 0.9 * 299)
    assert stats.bin_tokens == 20 and sum(stats.histogram) == 300
    assert list(stats.histogram) == [17, *[20] * 14, 3]
    assert response_tokens(rows, tokenizer) == stats
    assert response_tokens([], tokenizer).histogram == []
    assert not examined(rows).HasField("response_tokens")


def test_overlaps() -> None:
    rows = [Example(prompt="1?"), Example(prompt="2?"), Example(prompt="2?")]
    first, second = examined(rows, benchmarks=[("twos", lambda prompt: "2" in prompt), ("aime24", "no file")]).overlaps
    assert (first.benchmark, first.shared, first.examples, first.unchecked) == ("twos", 2, 3, "")
    assert (second.benchmark, second.shared, second.examples, second.unchecked) == ("aime24", 0, 0, "no file")
