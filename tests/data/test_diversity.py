"""STAR-1's diversity step against its formula, written down as plainly as can be, and on STAR-1 itself."""

import gzip
import json
import random
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest

from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import Example
from services.data.builders import star1_file
from services.data.selectors.diversity import select
from services.data.source import Row


def reference(examples: list[Example], count: int) -> list[int]:
    """One example at a time, all shares counted anew for each."""
    kinds = [(each.tags["source"], each.tags["category"].split("; ")) for each in examples]
    left = list(range(len(kinds)))
    while len(left) > count:
        by_source = Counter(kinds[index][0] for index in left)
        by_category = Counter(name for index in left for name in kinds[index][1])
        source_share = {name: Fraction(n, len(left)) for name, n in by_source.items()}
        category_share = {name: Fraction(n, by_category.total()) for name, n in by_category.items()}
        weights = {}
        for index in left:
            source, categories = kinds[index]
            key = (source, *categories)
            if key not in weights:
                weights[key] = source_share[source] * sum(category_share[name] for name in categories)
        left.remove(max(left, key=lambda index: weights[(kinds[index][0], *kinds[index][1])]))
    return left


def example(source: str, category: str) -> Example:
    return Example(id=f"{source}/{category}", tags={"source": source, "category": category})


def test_small_sets_at_random() -> None:
    chance = random.Random(5)
    for size in (1, 2, 30, 60):
        examples = [
            example(chance.choice("xxxyz"), "; ".join(chance.sample("ABCD", chance.choice((1, 1, 2, 3)))))
            for _ in range(size)
        ]
        for count in {1, size // 2 or 1, size}:
            assert select(examples, count, 1, None) == reference(examples, count)


def test_the_most_frequent_goes_first() -> None:
    examples = [example("x", "A"), example("x", "B"), example("y", "A"), example("x", "A")]
    assert select(examples, 3, 1, None) == [1, 2, 3]


@pytest.mark.parametrize(
    ("source", "category", "says"), [("", "A", "source"), ("x", "", "category"), ("x", ";", "cat")]
)
def test_an_example_that_cannot_be_weighed(source: str, category: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=f"has no {says}"):
        select([example("x", "A"), example(source, category)], 1, 1, None)


def test_star1_down_to_500(shared_data: Path) -> None:
    with gzip.open(shared_data / "star1" / "STAR-1.json.gz", "rt", encoding="utf-8") as file:
        examples = [star1_file.build(Row("S", number, row), {}) for number, row in enumerate(json.load(file), start=1)]
    chosen = select(examples, 500, 1, None)
    assert chosen == select(examples, 500, 2, None) == reference(examples, 500)
    assert chosen[:100] == [index for index in chosen if index <= chosen[99]]  # in order

    def largest(indices: list[int]) -> int:
        return Counter(examples[index].tags["source"] for index in indices).most_common(1)[0][1]

    assert largest(chosen) / 500 < largest(list(range(1000))) / 1000  # flatter than before
