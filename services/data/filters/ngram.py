"""Drops prompts that share a run of n words with a reference, such as a benchmark: decontamination as in s1 and STAR-1.

Words are lower-cased and without punctuation. n = 8 suits prompts of sentence length; our corpus is held to n = 5,
since its prompts have about twelve words, of which carriers shared by both splits take three. A prompt of fewer than
n words has one run: itself, whole.
"""

import re

from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import SourceSpec
from services.data.filter import FilterContext, Keep, one_by_one

OPTIONS = {
    "path": "the reference: a file, or what its source takes",
    "source": "how to read it (jsonl, json, csv, parquet, hub, demo); default: by the file's ending",
    "field": "its field with the prompt; default prompt",
    "revision": "hub only",
    "n": "words a run has; default 8",
}
REASON = "n-gram in reference"
Run = tuple[str, ...]
_WORD = re.compile(r"\w+(?:['’]\w+)*")


def prepare(context: FilterContext) -> Keep:
    n = context.count("n", default=8)
    name = context.options.get("field", "prompt")
    reference: set[Run] = set()
    for row in context.rows(_reference(context)):
        reference |= runs(row.text(name), n)
    return one_by_one(lambda example: REASON if reference & runs(example.prompt, n) else "")


def runs(text: str, n: int) -> set[Run]:
    """Every run of n words; of a shorter text the text itself; of a text without words nothing."""
    found = words(text)
    return {tuple(found[start : start + n]) for start in range(max(1, len(found) - n + 1))} - {()}


def words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _reference(context: FilterContext) -> SourceSpec:
    path = context.options.get("path", "")
    if not path:
        raise InvalidInput("filter ngram: `path` is missing; expected the file to compare with")
    ending = re.sub(r"\.(gz|zst)$", "", path).rpartition(".")[2]
    source = context.options.get("source", ending)
    return SourceSpec(source=source, path=path, revision=context.options.get("revision", ""))
