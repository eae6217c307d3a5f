"""Fine-tunes a checkpoint on a dataset: the job behind TrainerService.Train, on CPU or GPU, in one process or many.

    python -m services.trainer.worker training-1f3a… 1      (under torchrun for several processes)

An attempt that is asked to stop (SIGTERM: its node is drained, or wanted for something else) ends its step and saves a
resume point first. A killed one loses at most the steps since the last. The next attempt takes them again with the same
losses: examples, order and random numbers of a step depend on the seed and the step's number alone.
"""

import math
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch.distributed as dist

from lrm_safety import __version__, artefacts, jsonl, observe
from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import Checkpoint, Dataset, Example, Lineage, TrainingMetrics, TrainingSpec
from services.trainer import engine_worker, export_worker, method
from services.trainer.attempt import Attempt, Interrupted, carry_out
from services.trainer.encoding import EncodedSet, encode_all
from services.trainer.plan import Plan
from services.trainer.resume import ResumePoints
from services.trainer.resume_worker import Saved, Saver

log = observe.logger(__name__)


def work(attempt: Attempt) -> None:
    """From the run's spec to a published Checkpoint; only rank 0 writes to the store."""
    spec = attempt.run.spec.training
    attempt.ledger.progress("preparing", 0, 1, "steps")
    base = artefacts.find(attempt.store, "checkpoints", Checkpoint, spec.base)
    folder = artefacts.fetch(attempt.store, "checkpoints", base, attempt.settings.state_dir / "models")
    encoded = encode_all(_examples(attempt), folder, spec)
    attempt.ledger.facts["dropped_too_long"] = encoded.dropped
    engine_worker.join_processes()
    precision = engine_worker.choose_precision(spec, attempt.ledger)
    model = engine_worker.load_model(folder)
    done, saved = _resume(attempt)
    engine = engine_worker.make_engine(model, method.load(spec.method), spec, precision, saved)
    training = Training(attempt, engine, encoded)
    training.run(done)
    resolved = TrainingSpec()
    resolved.CopyFrom(spec)
    resolved.precision = precision
    training.publish(base, folder, resolved)


class Training:
    """The optimizer steps of one attempt."""

    def __init__(self, attempt: Attempt, engine: Any, encoded: EncodedSet) -> None:
        self._attempt, self._engine, self._encoded = attempt, engine, encoded.examples
        self._spec = attempt.run.spec.training
        self._plan = Plan([len(example.ids) for example in encoded.examples], self._spec)
        self._points = _points(attempt)
        self._saver = Saver(engine, self._points, keep=1)
        self._rank, self._device = dist.get_rank(), engine_worker.device()
        self._was_asked_to_stop = self._is_to_stop = False
        signal.signal(signal.SIGTERM, self._note_stop)
        log.info(
            "training_prepared",
            run=attempt.run.id,
            examples=len(encoded.examples),
            dropped_too_long=encoded.dropped,
            steps=self._plan.steps,
        )

    def run(self, done: int) -> None:
        """All steps that are not done yet, with a resume point now and then."""
        try:
            for step in range(done, self._plan.steps):
                self._take(step)
            self._saver.settle()
        finally:
            self._saver.close()

    def _take(self, step: int) -> None:
        """A step and what follows it. Raises Interrupted once what was done is safe."""
        row = self._step(step)
        if self._rank == 0:
            self._attempt.ledger.log_step(row)
            self._attempt.ledger.progress("training", step + 1, self._plan.steps, "steps")
        stops = self._is_to_stop and step + 1 < self._plan.steps
        if self._plan.saves_after(step) or stops:
            if self._rank == 0:
                self._attempt.ledger.flush()
            self._saver.save(step + 1)
        if stops:
            self._saver.settle()
            dist.barrier()  # the first process is through when the point is complete
            raise Interrupted

    def publish(self, base: Checkpoint, folder: Path, spec: TrainingSpec) -> None:
        """The final weights as a Checkpoint, verified first; the run's result is the last thing written."""
        parameters = list(self._engine.module.parameters())
        with deepspeed.zero.GatheredParameters(parameters, modifier_rank=0, enabled=self._spec.zero_stage == 3):
            if self._rank == 0:
                self._publish(base, folder, spec)
        dist.barrier()

    def _publish(self, base: Checkpoint, folder: Path, spec: TrainingSpec) -> None:
        ledger, out, model = self._attempt.ledger, _scratch(self._attempt) / "result", self._engine.module.model
        ledger.progress("publishing", 0, 1, "checkpoints")
        export_worker.write_folder(model, engine_worker.base_dtype(folder), folder, out)
        export_worker.verify_folder(out, model, self._encoded[0].ids)
        lineage = Lineage(
            base=spec.base,
            dataset=spec.dataset,
            training=spec,
            run=self._attempt.run.id,
            code_version=__version__,
            licence=base.lineage.licence,
        )
        size = export_worker.count_parameters(out)
        checkpoint = Checkpoint(name=spec.name, lineage=lineage, step=self._plan.steps, parameters=size)
        ledger.finish(artefacts.publish(self._attempt.store, "checkpoints", out, checkpoint))
        self._points.clear()
        shutil.rmtree(_scratch(self._attempt), ignore_errors=True)

    def _step(self, step: int) -> TrainingMetrics:
        """One optimizer step over batch_size examples; its gradient is the mean over all their trained tokens."""
        started = time.perf_counter()
        torch.manual_seed(((self._spec.seed << 32) + step) * self._spec.processes + self._rank)
        rate = self._plan.learning_rate(step)
        for group in self._engine.optimizer.param_groups:
            group["lr"] = rate
        seen = [self._encoded[index] for index in self._plan.examples(step)]
        targets = sum(len(example.ids) - example.start for example in seen)
        sums = torch.zeros(3, device=self._device)  # loss, correct tokens, processes that were asked to stop
        micros = self._plan.micros(step, self._rank)
        for number, micro in enumerate(micros, start=1):
            total, correct = self._engine(self._batch(micro))
            sums[:2] += torch.stack([total.detach(), correct])
            self._require_finite(total.item(), "loss", step)
            self._engine.backward(total * (len(micros) * self._spec.processes / targets))
            norm = self._advance(step, is_last=number == len(micros))
        sums[2] = self._was_asked_to_stop
        dist.all_reduce(sums)
        self._is_to_stop = bool(sums[2] > 0)  # all at the same step, or some would wait for the others for ever
        row = TrainingMetrics(step=step + 1, epoch=self._plan.epoch(step), learning_rate=rate, grad_norm=norm)
        row.loss, row.token_accuracy = (sums[:2] / targets).tolist()
        row.tokens_per_s = sum(len(example.ids) for example in seen) / (time.perf_counter() - started)
        return row

    def _advance(self, step: int, is_last: bool) -> float:
        """Tells the engine that a micro-batch is through; with the last one the weights move. The gradient's norm."""
        early = is_last and not self._engine.zero_optimization()
        norm = engine_worker.gradient_norm(self._engine) if early else 0.0
        self._require_finite(norm, "gradient", step)
        self._engine.step()
        if is_last and not early:
            norm = engine_worker.gradient_norm(self._engine)
            self._require_finite(norm, "gradient", step)
        return norm

    def _note_stop(self, *_: object) -> None:
        self._was_asked_to_stop = True

    def _require_finite(self, value: float, what: str, step: int) -> None:
        if not math.isfinite(value):
            self._saver.close()
            raise InvalidInput(
                f"the {what} is not finite at step {step + 1} of {self._plan.steps}; lower learning_rate, or set "
                f"precision: fp32 (resume point kept: step {self._points.newest()})"
            )

    def _batch(self, micro: list[int]) -> method.Batch:
        """Padded on the right to the longest; see method.Batch."""
        examples = [self._encoded[index] for index in micro]
        length = max(len(example.ids) for example in examples)
        ids = torch.zeros(len(examples), length, dtype=torch.long)
        is_target = torch.zeros(len(examples), length, dtype=torch.bool)
        for row, example in enumerate(examples):
            ids[row, : len(example.ids)] = torch.tensor(example.ids)
            is_target[row, example.start : len(example.ids)] = True
        return method.Batch(ids.to(self._device), is_target.to(self._device))


def _points(attempt: Attempt) -> ResumePoints:
    return ResumePoints(attempt.store, attempt.run.id, attempt.ledger.attempt)


def _scratch(attempt: Attempt) -> Path:
    return attempt.settings.state_dir / "training" / attempt.run.id


def _resume(attempt: Attempt) -> tuple[int, Saved | None]:
    """(steps done before this attempt, the newest resume point on this machine's disk if there is one)."""
    points, folder = _points(attempt), _scratch(attempt) / "resume"
    found = [points.newest()]
    dist.broadcast_object_list(found, device=engine_worker.device())
    done = found[0]
    if not done:
        return 0, None
    if dist.get_node_local_rank(0) == 0:
        points.download(done, folder)
    dist.barrier()
    saved = Saved(sorted(folder.glob("*.safetensors")))
    dist.barrier()
    if dist.get_node_local_rank(0) == 0:
        shutil.rmtree(folder)  # the open files stay readable
    log.info("training_resumed", run=attempt.run.id, step=done)
    return done, saved


def _examples(attempt: Attempt) -> Iterator[Example]:
    """The rows of the dataset, in the order of its files."""
    dataset = artefacts.find(attempt.store, "datasets", Dataset, attempt.run.spec.training.dataset)
    folder = artefacts.fetch(attempt.store, "datasets", dataset, attempt.settings.state_dir / "datasets")
    for entry in dataset.files:
        if entry.path.endswith(".jsonl.zst"):
            yield from jsonl.unpack(Example, (folder / entry.path).read_bytes())


if __name__ == "__main__":
    sys.exit(carry_out(work))
