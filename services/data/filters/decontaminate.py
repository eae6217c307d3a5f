"""Drops prompts that a benchmark asks: word for word, in other case or punctuation, or in other words.

Compared with every benchmark of the bench service: by runs of n words (8, as in s1 and STAR-1), and by the cosine of
sentence embeddings (0.7, as in STAR-1, arXiv 2504.01903, step 4). Each is told with benchmark, item and example in the
manifest's overlaps, and so is a benchmark whose data file is not there. Memory: 1.5 KB an item.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from lrm_safety import jsonl
from lrm_safety.errors import NotFound
from lrm_safety.nouns import Example, Match, Sample
from services.data import reference
from services.data.benchmarks import N, Wording, own_words, read_benchmarks
from services.data.filter import FilterContext, Keep
from services.data.nearest import Nearest

OPTIONS = {
    "benchmarks": "names, such as xstest, math500; default every one whose data file is there",
    "n": f"words a run must share; default {N}",
    "threshold": "cosine from which a prompt is dropped; default 0.7; none = words only",
}
PARTS = ("benchmarks.py", "words.py", "embedding.py", "nearest.py", "reference.py")
SAME_WORDS, SAME_MEANING = "n-gram in benchmark", "meaning in benchmark"
NO_COSINES = "none"


def prepare(context: FilterContext) -> Keep:
    benchmarks = _read(context)
    wordings = {name: Wording(samples, context.count("n", default=N)) for name, samples in benchmarks.items()}
    paraphrases = None if context.options.get("threshold") == NO_COSINES else _Paraphrases(context, benchmarks)

    def same_words(example: Example) -> list[Match]:
        found = ((name, item) for name, wording in wordings.items() for item in wording.items(example.prompt))
        return [Match(benchmark=name, item=item, example=example.id, how="n-gram") for name, item in found]

    def keep(examples: Sequence[Example]) -> list[str]:
        matches = [same_words(example) for example in examples]
        reasons = [SAME_WORDS if each else "" for each in matches]
        if paraphrases:
            left = [example for example, reason in zip(examples, reasons, strict=True) if not reason]
            by_meaning = iter(paraphrases.matches(left))
            matches = [each or next(by_meaning) for each in matches]
            reasons = [reason or (SAME_MEANING if each else "") for reason, each in zip(reasons, matches, strict=True)]
        context.findings.matches += [match for each in matches for match in each]
        return reasons

    return keep


class _Paraphrases:
    """The items as sentence embeddings."""

    def __init__(self, context: FilterContext, benchmarks: dict[str, list[Sample]]) -> None:
        self._embedder = context.embedder()
        self._threshold = np.float32(reference.share(context, "threshold", 0.7))
        self._items = [(name, sample.id) for name, samples in benchmarks.items() for sample in samples]
        self._texts = [text for samples in benchmarks.values() for text in own_words(samples)]
        self._index = Nearest(float(self._threshold))

    def matches(self, examples: Sequence[Example]) -> list[list[Match]]:
        """Of each example the closest item, if it is close enough."""
        vectors = self._embedder.embed([example.prompt for example in examples])
        if not len(self._index):  # not in `prepare`: it takes a while
            self._index.add(self._embedder.embed(self._texts))
        places, cosines = self._index.closest(vectors)
        found = []
        for example, place, cosine in zip(examples, places.tolist(), cosines.tolist(), strict=True):
            name, item = self._items[place] if cosine >= self._threshold else ("", "")
            match = Match(benchmark=name, item=item, example=example.id, how="cosine", score=cosine)
            found.append([match] if name else [])
        return found


def _read(context: FilterContext) -> dict[str, list[Sample]]:
    """The benchmarks that are there. Raises NotFound for one that was named and is not."""
    named = [name.strip() for name in context.options.get("benchmarks", "").split(",") if name.strip()]
    found = {}
    for name, samples in read_benchmarks(context.clients(), named):
        if isinstance(samples, str):
            if named:
                raise NotFound(f"filter decontaminate: benchmark {name}: {samples}; name others, or put its file there")
            context.findings.unchecked[name] = samples
        else:
            found[name] = samples
            context.inputs.append(hashlib.sha256(b"".join(map(jsonl.canonical, samples))).hexdigest())
    return found
