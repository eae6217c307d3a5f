"""What a filter compares with: rows of a file or another source, named by its options, and what passed before."""

import re
from collections.abc import Iterator, Sequence

from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import Example, SourceSpec
from services.data.filter import FilterContext

OPTIONS = {
    "path": "the reference: a file, or what its source takes",
    "source": "how to read it (jsonl, json, csv, parquet, hub, demo); default: by the file's ending",
    "field": "its field with the prompt; default prompt",
    "revision": "hub only",
}
NONE, PART, ALL = "none", "part", "all"


def texts(context: FilterContext) -> Iterator[str]:
    """The prompts of the reference; none when no `path` is given."""
    path = context.options.get("path", "")
    if not path:
        return
    ending = re.sub(r"\.(gz|zst)$", "", path).rpartition(".")[2]
    source = context.options.get("source", ending)
    spec = SourceSpec(source=source, path=path, revision=context.options.get("revision", ""))
    name = context.options.get("field", "prompt")
    for row in context.rows(spec):
        yield row.text(name)


def among(context: FilterContext, default: str, others: Sequence[str]) -> str:
    """The option that says with which examples each is compared as well: `none` or one of the others.

    Raises InvalidInput, also when there is nothing to compare with at all.
    """
    said = context.options.get("among", default)
    if said not in (NONE, *others):
        raise InvalidInput(f"filter {context.name}: among is {said!r}; expected {', '.join((NONE, *others))}")
    if said == NONE and not context.options.get("path"):
        raise InvalidInput(
            f"filter {context.name}: `path` is missing; expected the file to compare with, "
            f"or among: {' or '.join(others)}"
        )
    return said


def part_of(example: Example) -> str:
    return example.id.partition("/")[0]


def share(context: FilterContext, name: str, default: float) -> float:
    """An option that is a number above 0, and 1 at most. Raises InvalidInput."""
    text = context.options.get(name, str(default))
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise InvalidInput(f"filter {context.name}: {name} is {text!r}; expected a number above 0, and 1 at most")
    return value
