"""What a dataset is made of, in numbers, read in one pass: shares, lengths of responses, overlap with benchmarks.

Only tags that name kinds of requests are counted; others, such as a behaviour, may be a request themselves.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import islice

from tokenizers import Tokenizer

from lrm_safety.nouns import Dataset, Example, Overlap, Shares
from services.data.tokens import Lengths

TAGS = ("category", "source", "type")
BETWEEN = "; "  # the values of a tag that has several
MOST_VALUES = 100  # of a tag; one with more names no kinds
_BATCH = 256
IsShared = Callable[[str], bool]  # whether a prompt is also in a benchmark


def examine(
    examples: Iterable[Example],
    manifest: Dataset,
    tokenizer: Tokenizer | None,
    benchmarks: Iterable[tuple[str, IsShared | str]],
    counted: Callable[[int], None],
) -> None:
    """Fills unanswered, shares, overlaps and, with a tokenizer, response_tokens of the manifest.

    `counted` hears of progress. Of a benchmark that could not be read the reason stands in for the question.
    """
    shares: dict[str, Counter[str]] = {tag: Counter() for tag in TAGS}
    lengths = None if tokenizer is None else Lengths(tokenizer)
    overlaps = [_Compared(name, found) for name, found in benchmarks]
    done, left = 0, iter(examples)
    while batch := list(islice(left, _BATCH)):
        for example in batch:
            manifest.unanswered += not example.answer.strip()
            for tag, values in shares.items():
                values.update(values_of(example, tag))
            for each in overlaps:
                each.add(example)
        if lengths is not None:
            lengths.add(batch)
        done += len(batch)
        counted(done)
    manifest.shares.extend(Shares(tag=tag, examples=n) for tag, n in shares.items() if 0 < len(n) <= MOST_VALUES)
    manifest.overlaps.extend(each.overlap for each in overlaps)
    if lengths is not None:
        manifest.response_tokens.CopyFrom(lengths.stats())


def values_of(example: Example, tag: str) -> list[str]:
    """Of one tag; where a row does not say its source, the file it came from is the source."""
    text = example.tags.get(tag, "") or (example.provenance.source if tag == "source" else "")
    return [value for value in dict.fromkeys(text.split(BETWEEN)) if value]


class _Compared:
    """One benchmark, and how many of the examples are also in it."""

    def __init__(self, name: str, found: IsShared | str) -> None:
        self._is_shared = None if isinstance(found, str) else found
        self.overlap = Overlap(benchmark=name, unchecked=found if isinstance(found, str) else "")

    def add(self, example: Example) -> None:
        if self._is_shared:
            self.overlap.examples += 1
            self.overlap.shared += self._is_shared(example.prompt)
