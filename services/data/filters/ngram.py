"""Drops prompts that share a run of n words with a reference, such as a benchmark, or with a prompt before them.

Decontamination as in s1 and STAR-1 (arXiv 2504.01903): `path` names a reference; `among: part` also compares each
prompt with those of its part that passed, `among: all` with those of every part. Words are lower-cased and without
punctuation. n = 8 suits prompts of sentence length; our corpus is held to n = 5, since its prompts have about twelve
words, of which carriers shared by both splits take three. A prompt of fewer than n words has one run: itself, whole.
Memory: 8 bytes a run, and as many again at times.
"""

from collections.abc import Mapping, Sequence

from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import Example
from services.data import reference
from services.data.filter import FilterContext, Keep
from services.data.seen import Seen
from services.data.words import hashed, runs

OPTIONS = {
    **reference.OPTIONS,
    "n": "words a run has; default 8",
    "among": "compare with those that passed: none (default), part, all",
    "n_of": "another n inside some parts, with among: part, such as beavertails=5, ultra_safety=7",
}
PARTS = ("reference.py", "seen.py", "words.py")
IN_REFERENCE, BEFORE = "n-gram in reference", "n-gram came before"


def prepare(context: FilterContext) -> Keep:
    n, among = context.count("n", default=8), reference.among(context, reference.NONE, (reference.PART, reference.ALL))
    sizes = _sizes(context.options, among)
    known, before = Seen(), Seen()
    known.add(each for text in reference.texts(context) for each in _hashes(text, n))

    def keep(examples: Sequence[Example]) -> list[str]:
        reasons = [""] * len(examples)
        if known:
            in_reference = known.shares([_hashes(example.prompt, n) for example in examples])
            reasons = [IN_REFERENCE if each else "" for each in in_reference]
        left = [place for place, reason in enumerate(reasons) if not reason]
        if among != reference.NONE:
            rows = [_own(examples[place], n, sizes, among == reference.PART) for place in left]
            for place, is_new in zip(left, before.take(rows), strict=True):
                reasons[place] = "" if is_new else BEFORE
        return reasons

    return keep


def _hashes(text: str, n: int, part: str = "") -> list[int]:
    return [hashed(f"{part}\0{' '.join(run)}") for run in runs(text, n)]


def _own(example: Example, n: int, sizes: Mapping[str, int], is_apart: bool) -> list[int]:
    """Runs that meet those of other prompts; of parts that are kept apart, only those of their own."""
    part = reference.part_of(example) if is_apart else ""
    return _hashes(example.prompt, sizes.get(part, n), part)


def _sizes(options: Mapping[str, str], among: str) -> dict[str, int]:
    text = options.get("n_of", "")
    pairs = [each.strip().partition("=") for each in text.split(",") if each.strip()]
    if any(not part or not size.isdecimal() or int(size) == 0 for part, _, size in pairs):
        raise InvalidInput(f"filter ngram: n_of is {text!r}; expected parts with a number each, such as beavertails=5")
    if pairs and among != reference.PART:
        raise InvalidInput("filter ngram: n_of is for among: part, where every part is compared with itself")
    return {part: int(size) for part, _, size in pairs}
