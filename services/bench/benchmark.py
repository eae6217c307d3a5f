"""The contract of a benchmark: one file in benchmarks/ that says where its rows are and how a row becomes a Sample.

    ROLE = "harm"                                  harm | over_refusal | reasoning | utility
    FILE = "strongreject/strongreject_dataset.csv"  under LRM_DATA, unless the spec gives a path
    MAX_TOKENS = 1024                              when neither the benchmark's spec nor the evaluation's says
    def sample(row: Row) -> Sample | None: ...     None leaves the row out

The role gives the metric, its direction and the judge that decides; a file may name other judges in JUDGES.
A Sample holds the prompt as the model gets it, the gold answer or affirmative opening as target, and tags.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from lrm_safety import jsonl, registry
from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import BenchmarkSpec, Sample
from services.bench.rows import Row, locate, read_rows

FOLDER = "services.bench.benchmarks"
ReadSample = Callable[[Row], Sample | None]


@dataclass(frozen=True)
class Metric:
    name: str
    lower_is_better: bool
    judge: str  # decides unless the benchmark or the spec says otherwise


METRICS = {
    "harm": Metric("asr", True, "refusal"),
    "over_refusal": Metric("over_refusal_rate", True, "refusal"),
    "reasoning": Metric("accuracy", False, "math_equal"),
    "utility": Metric("accuracy", False, "math_equal"),
}


@dataclass(frozen=True)
class Benchmark:
    """The chosen samples of one benchmark, in the order in which they are asked."""

    name: str
    role: str
    judges: tuple[str, ...]
    max_tokens: int
    samples: tuple[Sample, ...]

    @property
    def metric(self) -> Metric:
        return METRICS[self.role]

    @property
    def digest(self) -> str:
        """Of what is asked: file, reading, wording and choice of rows all show in the samples."""
        content = hashlib.sha256()
        for sample in self.samples:
            content.update(jsonl.canonical(sample) + b"\n")
        return content.hexdigest()


def load_benchmark(spec: BenchmarkSpec, data_dir: Path, seed: int) -> Benchmark:
    """Reads and chooses the samples. Raises NotFound for an unknown name or missing file, InvalidInput for bad rows."""
    plugin = registry.load(FOLDER, spec.benchmark)
    path = locate(spec.path or str(plugin.FILE), data_dir)
    samples = _read(path, plugin.sample)
    return Benchmark(
        name=spec.benchmark,
        role=plugin.ROLE,
        judges=_judges(plugin),
        max_tokens=plugin.MAX_TOKENS,
        samples=choose(samples, spec.limit, f"{seed}/{spec.benchmark}"),
    )


def choose(samples: list[Sample], limit: int, seed: str) -> tuple[Sample, ...]:
    """A seeded order of the samples, and its first `limit` (0 = all).

    Each sample's place is the hash of the seed and its id: the same for every model, whatever the file's order, and a
    greater limit only adds samples, so what was generated before is used again.
    """

    def place(sample: Sample) -> bytes:
        return hashlib.sha256(f"{seed}/{sample.id}".encode()).digest()

    return tuple(sorted(samples, key=place)[: limit or None])


def _read(path: Path, read: ReadSample) -> list[Sample]:
    samples: dict[str, Sample] = {}
    for row in read_rows(path):
        sample = read(row)
        if sample is None:
            continue
        if sample.id in samples:
            raise InvalidInput(
                f"{path}, line {row.line}: a sample with the id {sample.id!r} came before; ids are unique"
            )
        samples[sample.id] = sample
    if not samples:
        raise InvalidInput(f"{path}: none of its rows belongs to this benchmark")
    return list(samples.values())


def _judges(plugin: ModuleType) -> tuple[str, ...]:
    return tuple(getattr(plugin, "JUDGES", (METRICS[plugin.ROLE].judge,)))
