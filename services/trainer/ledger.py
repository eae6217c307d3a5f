"""What a job of the trainer leaves in the store for its service, and for its own next attempt.

runs/<run>/job/progress.json                 rewritten at most once a second
runs/<run>/job/metrics/<attempt>-<step>      immutable rows; of a step trained twice the later attempt counts
runs/<run>/job/error-<attempt>.json          why the attempt ended, when it could still say so; written once
runs/<run>/job/setup.json                    how the newest attempt is carried out
runs/<run>/job/analysis.json                 what an analysis found
runs/<run>/job/result.json                   the Checkpoint that came out, written last; an analysis: name and digest
"""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from lrm_safety import errors, jsonl
from lrm_safety.nouns import Analysis, Checkpoint, Progress, TrainingMetrics, TrainingSetup
from lrm_safety.store import ObjectStore

WRITE_EVERY_S = 1.0
AT_ONCE = 16  # objects read: a training of hours leaves thousands


@dataclass
class Ledger:
    """Written by one attempt of a job; read by anybody."""

    store: ObjectStore
    run: str
    attempt: int = 0  # 0 = a reader
    facts: dict[str, float] = field(default_factory=dict)  # shown with the metrics, e.g. how many rows were dropped
    _rows: list[TrainingMetrics] = field(default_factory=list)
    _newest: TrainingMetrics | None = None
    _wrote: float = 0.0

    def progress(self, stage: str, done: float, total: float, unit: str) -> None:
        """Shown at once for a new stage; within a stage at most once a second, with the newest metrics."""
        if done and done < total and time.monotonic() - self._wrote < WRITE_EVERY_S:
            return
        now = Progress(stage=stage, done=done, total=total, unit=unit, metrics=self._shown())
        self.flush()
        self.store.write(f"{self._root}/progress.json", jsonl.dumps(now).encode())
        self._wrote = time.monotonic()

    def log_step(self, row: TrainingMetrics) -> None:
        """Kept until the next `progress` or `flush`."""
        self._rows.append(row)
        self._newest = row

    def flush(self) -> None:
        if self._rows:
            key = f"{self._root}/metrics/{self.attempt:03d}-{self._rows[0].step:08d}.jsonl.zst"
            self.store.write(key, jsonl.pack(self._rows))
            self._rows = []

    def fail(self, error: errors.LrmError) -> None:
        """Of an attempt's processes the first to fail says why: the others fail because it is gone."""
        self.flush()
        record = {"kind": type(error).__name__, "message": str(error)}
        self.store.create(f"{self._root}/error-{self.attempt}.json", json.dumps(record).encode())

    def finish(self, result: Checkpoint) -> None:
        self.progress("published", 1, 1, "checkpoints")
        self.store.write(f"{self._root}/result.json", jsonl.dumps(result).encode())

    def finish_analysis(self, analysis: Analysis) -> None:
        digest = self.store.write(f"{self._root}/analysis.json", jsonl.dumps(analysis).encode())
        self.finish(Checkpoint(name=analysis.spec.analysis, digest=digest))

    def read_analysis(self) -> Analysis:
        """Raises NotFound before the analysis is done."""
        key = f"{self._root}/analysis.json"
        if not self.store.stat(key):
            raise errors.NotFound(f"run {self.run} has found nothing yet; see `lrm runs why {self.run}`")
        return jsonl.loads(Analysis, self.store.read(key))

    def note_setup(self, setup: TrainingSetup) -> None:
        self.store.write(f"{self._root}/setup.json", jsonl.dumps(setup).encode())

    def read_setup(self) -> TrainingSetup:
        """Raises NotFound before the first attempt has begun."""
        key = f"{self._root}/setup.json"
        if not self.store.stat(key):
            raise errors.NotFound(f"run {self.run} has not begun to train; see `lrm runs why {self.run}`")
        return jsonl.loads(TrainingSetup, self.store.read(key))

    def choose(self, name: str, value: str) -> str:
        """A choice made once for the whole run: the first attempt's, whatever later ones would prefer."""
        key = f"{self._root}/choices/{name}"
        return value if self.store.create(key, value.encode()) else self.store.read(key).decode()

    def chosen(self, name: str) -> str:
        """A choice that was made; empty before."""
        key = f"{self._root}/choices/{name}"
        return self.store.read(key).decode() if self.store.stat(key) else ""

    def read_progress(self) -> Progress | None:
        key = f"{self._root}/progress.json"
        return jsonl.loads(Progress, self.store.read(key)) if self.store.stat(key) else None

    def read_error(self, attempt: int) -> errors.LrmError | None:
        """The error an attempt ended with; None when it was killed before it could say."""
        key = f"{self._root}/error-{attempt}.json"
        if not self.store.stat(key):
            return None
        record = json.loads(self.store.read(key))
        kinds = {kind.__name__: kind for kind in errors.LrmError.__subclasses__()}
        return kinds.get(record["kind"], errors.LrmError)(record["message"])

    def read_result(self) -> Checkpoint | None:
        key = f"{self._root}/result.json"
        return jsonl.loads(Checkpoint, self.store.read(key)) if self.store.stat(key) else None

    def read_metrics(self) -> Iterator[TrainingMetrics]:
        """One row a step, in order."""
        rows: dict[int, TrainingMetrics] = {}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for written in pool.map(self.store.read, self.store.list(f"{self._root}/metrics/")):  # by attempt
                rows |= {row.step: row for row in jsonl.unpack(TrainingMetrics, written)}  # so later ones overwrite
        yield from (rows[step] for step in sorted(rows))

    def _shown(self) -> dict[str, float]:
        row = self._newest
        names = ("loss", "token_accuracy", "learning_rate", "tokens_per_s", "mfu", "memory_gib")
        return self.facts | ({name: getattr(row, name) for name in names} if row else {})

    @property
    def _root(self) -> str:
        return f"runs/{self.run}/job"
