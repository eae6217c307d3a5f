"""What the benchmarks ask, as the bench service reads it, and which prompts of a dataset ask the same.

A prompt shares an item's wording when it has a run of n words in common with it; of an item with fewer words, all of
them in a row, anywhere in the prompt, and of one with fewer than four, nothing else. What all items of a benchmark
begin or end with is how it asks, not what: an instruction to put the answer into a box does not count.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from itertools import takewhile

from lrm_safety.clients import RETRY_AFTER_S, Clients, rpc, rpc_stream
from lrm_safety.errors import LrmError, NotFound, Unavailable
from lrm_safety.nouns import ListPluginsRequest, ReadSamplesRequest, Sample, question
from services.data.words import Run, words

N = 8
BENCH = "bench"
_FEWEST_WORDS = 4  # of an item that is looked for inside a longer prompt
_FEWEST_ITEMS = 3  # of a benchmark that has a way of asking


def read_benchmarks(
    clients: Clients, names: Sequence[str] = (), retry_after_s: Sequence[float] = RETRY_AFTER_S
) -> Iterator[tuple[str, list[Sample] | str]]:
    """Those of these names, or every one that bench lists: name and samples, or why there are none.

    Raises Unavailable when bench does not answer.
    """
    listed = rpc(clients.bench.ListPlugins, ListPluginsRequest(kind="benchmarks"), retry_after_s=retry_after_s)
    every = [plugin.name for plugin in listed.plugins]
    for name in names or every:
        try:
            yield name, list(rpc_stream(clients.bench.ReadSamples, ReadSamplesRequest(benchmark=name)))
        except Unavailable:
            raise
        except NotFound:
            yield name, "its data file is not there" if name in every else "there is no such benchmark"
        except LrmError:
            yield name, "its data file cannot be read"


def comparisons(clients: Clients) -> list[tuple[str, Callable[[str], bool] | str]]:
    """Of each benchmark a function that says whether a prompt shares an item's wording, or why there is none."""
    asked: list[tuple[str, list[Sample] | str]] = []
    try:
        asked += read_benchmarks(clients, retry_after_s=())
    except Unavailable:
        asked.append((BENCH, "the bench service does not answer"))
    joined = _Joined({name: Wording(samples) for name, samples in asked if not isinstance(samples, str)})
    return [(name, found if isinstance(found, str) else partial(joined.is_in, name)) for name, found in asked]


class Wording:
    """The runs of words of a benchmark's items."""

    def __init__(self, samples: Sequence[Sample], n: int = N) -> None:
        self._n = n
        self._items: dict[Run, list[str]] = {}
        for sample, text in zip(samples, own_words(samples), strict=True):
            found = words(text)
            for run in _windows(found, min(n, len(found))):
                self._items.setdefault(run, []).append(sample.id)

    def __iter__(self) -> Iterator[Run]:
        return iter(self._items)

    def items(self, prompt: str) -> list[str]:
        """The ids of the items whose wording is in the prompt, in the order in which it has them."""
        return list(dict.fromkeys(each for run in _runs(prompt, self._n) for each in self._items.get(run, ())))


def own_words(samples: Sequence[Sample]) -> list[str]:
    """The question of each sample, without what all of them begin or end with."""
    texts = [question(sample).split() for sample in samples]
    start = end = 0
    if len(texts) >= _FEWEST_ITEMS:
        start, end = _shared(texts), _shared([text[::-1] for text in texts])
    return [" ".join(text[start : max(start, len(text) - end)]) for text in texts]


class _Joined:
    """Many benchmarks, looked up at once: they are asked one after the other about the same prompt."""

    def __init__(self, wordings: Mapping[str, Wording]) -> None:
        self._names: dict[Run, list[str]] = {}
        for name, wording in wordings.items():
            for run in wording:
                self._names.setdefault(run, []).append(name)
        self._prompt, self._found = "", set[str]()

    def is_in(self, name: str, prompt: str) -> bool:
        if prompt != self._prompt:
            self._prompt = prompt
            self._found = {each for run in _runs(prompt, N) for each in self._names.get(run, ())}
        return name in self._found


def _shared(texts: Sequence[Sequence[str]]) -> int:
    """How many words all of them begin with."""
    return sum(1 for _ in takewhile(lambda each: len(set(each)) == 1, zip(*texts, strict=False)))


@lru_cache(maxsize=1)  # the benchmarks are asked one after the other about the same prompt
def _runs(prompt: str, n: int) -> list[Run]:
    found = words(prompt)
    whole = [tuple(found)] if 0 < len(found) < _FEWEST_WORDS else []
    return whole + [run for size in range(_FEWEST_WORDS, n + 1) for run in _windows(found, size)]


def _windows(found: Sequence[str], size: int) -> list[Run]:
    return [tuple(found[start : start + size]) for start in range(len(found) - size + 1)] if size else []
