"""How fast are the filters of a dataset, how much do they keep in memory, and how does both grow?

    .venv/bin/python -m benchmarks.data_filters [--rows 50000 100000 200000 500000] [--usual-rows 50000] [--runs 1]

Questions are made from a seed: words by Zipf's law, 10 % exact duplicates (in other case or punctuation) and 10 % with
one word changed. `funnel` is a build's own order: exact, n-gram, near, TF-IDF, each on what the one before it kept.
Every cell is a process of its own, so that its peak of memory is its own. Beside our filters stand what one
writes with the usual libraries: sets of strings and of tuples, datasketch's MinHash and LSH, scikit-learn's TF-IDF with
products of blocks; theirs and ours take turns. Needs scikit-learn for that (`uv pip install scikit-learn`).
"""

import argparse
import csv
import io
import itertools
import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lrm_safety.nouns import Example, FilterSpec
from lrm_safety.settings import Settings
from services.data.filter import prepare
from services.data.filters.near import letter_runs
from services.data.words import runs, words

BLOCK = 512
SAMPLE = 20_000  # questions that may come again
STEPS: dict[str, dict[str, str]] = {
    "exact": {},
    "ngram": {"n": "8", "among": "all"},
    "near": {"threshold": "0.8"},
    "tfidf": {"threshold": "0.6"},
}
TABLE = Path(__file__).with_suffix(".csv")
Blocks = Iterable[list[str]]
Sift = Callable[[Blocks], int]  # texts -> how many stay


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[50_000, 100_000, 200_000, 500_000])
    parser.add_argument("--steps", nargs="+", default=[*STEPS, "funnel"])
    parser.add_argument(
        "--usual-rows", type=int, default=50_000, help="how many for the usual ways; 0 = leave them out"
    )
    parser.add_argument("--runs", type=int, default=1)
    options = parser.parse_args()
    cells = [(name, rows) for rows in options.rows for name in options.steps]
    cells += [(name, options.usual_rows) for name in USUAL if options.usual_rows]
    cells.sort(key=lambda cell: (cell[1], cell[0]))
    measured: dict[tuple[str, int], list[Measured]] = {cell: [] for cell in cells}
    for (name, rows), found in itertools.chain.from_iterable([measured.items()] * options.runs):
        found.append(alone(name, rows))
        print(f"{name:14} {rows:7} rows: {found[-1]}", flush=True)
        write(name, rows, found)


def alone(name: str, rows: int) -> "Measured":
    """One cell in a process of its own."""
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(name, rows, send))
    process.start()
    send.close()
    found: Measured = receive.recv()
    process.join()
    return found


@dataclass(frozen=True)
class Measured:
    """Times are without making the questions; the peak is the whole process's."""

    seconds: float
    cpu_seconds: float
    peak_mb: float
    stay: int
    load: float  # of the machine, the minute before the end


def write(name: str, rows: int, found: Sequence[Measured]) -> None:
    """Puts the median run into the table, in the place of what is there of this cell."""
    with TABLE.open(newline="") if TABLE.exists() else io.StringIO() as file:
        table = {(row["step"], int(row["rows"])): row for row in csv.DictReader(file)}
    middle = sorted(found, key=lambda each: each.seconds)[(len(found) - 1) // 2]
    table[name, rows] = {
        "step": name,
        "rows": str(rows),
        "seconds": f"{middle.seconds:.1f}",
        "cpu_seconds": f"{middle.cpu_seconds:.1f}",
        "rows_per_second": f"{rows / middle.seconds:.0f}",
        "peak_mb": f"{middle.peak_mb:.0f}",
        "stay": str(middle.stay),
        "load": f"{middle.load:.1f}",
    }
    with TABLE.open("w", newline="") as file:
        writer = csv.DictWriter(file, next(iter(table.values())), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table[cell] for cell in sorted(table, key=lambda cell: (cell[1], cell[0])))


def questions(rows: int, seed: int = 1) -> Iterator[str]:
    """6 to 19 words each; 80 % new, 10 % as one before in other case or punctuation, 10 % with another word in it."""
    rng = np.random.default_rng(seed)
    vocabulary = made_words(rng, 60_000)
    shares = 1 / np.arange(1, len(vocabulary) + 1) ** 1.05
    shares /= shares.sum()
    before: list[list[str]] = []  # a sample of them
    for start in range(0, rows, BLOCK):
        size = min(BLOCK, rows - start)
        lengths = rng.integers(6, 20, size)
        chosen = np.split(rng.choice(len(vocabulary), int(lengths.sum()), p=shares), np.cumsum(lengths)[:-1])
        for kind, place, ids in zip(rng.random(size), rng.integers(SAMPLE, size=size), chosen, strict=True):
            said = [vocabulary[each] for each in ids]
            if kind < 0.2 and before:
                yield _repeated(before[place % len(before)], float(kind), said[0])
                continue
            if len(before) < SAMPLE:
                before.append(said)
            elif kind > 0.9:
                before[place] = said
            yield " ".join(said) + "?"


def made_words(rng: np.random.Generator, count: int) -> list[str]:
    letters = rng.integers(ord("a"), ord("z") + 1, (count, 10), dtype=np.uint8)
    return [bytes(row[:size]).decode() for row, size in zip(letters, rng.integers(2, 11, count), strict=True)]


def _repeated(said: Sequence[str], kind: float, other: str) -> str:
    if kind < 0.05:
        return " ".join(said).upper()
    if kind < 0.1:
        return ", ".join(said) + "!"
    return " ".join([*said[:3], other, *said[4:]])


def _measure(name: str, rows: int, send: Connection) -> None:
    sift = USUAL[name] if name in USUAL else ours(list(STEPS) if name == "funnel" else [name])
    texts = questions(rows)
    waited = np.zeros(2)

    def blocks() -> Iterator[list[str]]:
        nonlocal waited
        while True:
            began = _clocks()
            block = list(itertools.islice(texts, BLOCK))
            waited = waited + _clocks() - began
            if not block:
                return
            yield block

    began = _clocks()
    stay = sift(blocks())
    seconds, cpu_seconds = (_clocks() - began - waited).tolist()
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    send.send(Measured(seconds, cpu_seconds, peak_mb, stay, os.getloadavg()[0]))


def _clocks() -> NDArray[np.float64]:
    return np.array([time.perf_counter(), time.process_time()])


def ours(names: Sequence[str]) -> Sift:
    filters = [prepare(FilterSpec(filter=name, options=STEPS[name]), Settings())[0] for name in names]

    def sift(blocks: Blocks) -> int:
        stay = 0
        for block in blocks:
            left = [Example(id=f"made/{number}", prompt=text) for number, text in enumerate(block)]
            for keep in filters:
                left = [each for each, reason in zip(left, keep(left), strict=True) if not reason]
            stay += len(left)
        return stay

    return sift


def _set_of_strings(blocks: Blocks) -> int:
    return len({" ".join(words(text)) for block in blocks for text in block})


def _set_of_tuples(blocks: Blocks) -> int:
    seen: set[tuple[str, ...]] = set()
    stay = 0
    for text in itertools.chain.from_iterable(blocks):
        found = runs(text, 8)
        if seen.isdisjoint(found):
            seen |= found
            stay += 1
    return stay


def _datasketch(blocks: Blocks) -> int:
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=0.8, num_perm=128)
    stay = 0
    for text in itertools.chain.from_iterable(blocks):
        sketch = MinHash(num_perm=128)
        sketch.update_batch([each.encode() for each in letter_runs(text)])
        if not index.query(sketch):
            index.insert(str(stay), sketch)
            stay += 1
    return stay


def _scikit(blocks: Blocks) -> int:
    from scipy import sparse
    from sklearn.feature_extraction.text import TfidfVectorizer  # type: ignore[import-untyped,unused-ignore]

    texts = list(itertools.chain.from_iterable(blocks))
    weights = TfidfVectorizer(dtype=np.float32).fit_transform(texts)
    kept = weights[:0]
    for start in range(0, len(texts), BLOCK):
        rows = weights[start : start + BLOCK]
        rows = rows[np.asarray((rows @ kept.T).max(axis=1).todense()).ravel() < 0.6] if start else rows
        inside = np.tril((rows @ rows.T).toarray() >= 0.6, -1)
        chosen: list[int] = []
        for row in range(rows.shape[0]):
            if not inside[row, chosen].any():
                chosen.append(row)
        kept = sparse.vstack((kept, rows[chosen]), format="csr")
    return int(kept.shape[0])


USUAL: dict[str, Sift] = {
    "exact (usual)": _set_of_strings,
    "ngram (usual)": _set_of_tuples,
    "near (usual)": _datasketch,
    "tfidf (usual)": _scikit,
}


if __name__ == "__main__":
    main()
