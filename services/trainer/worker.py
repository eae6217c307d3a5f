"""Fine-tunes a checkpoint on a dataset: the job behind TrainerService.Train, on CPU or GPU, in one process or many.

    python -m services.trainer.worker training-1f3a… 1      (under torchrun for several processes)

An attempt that is asked to stop (SIGTERM: its node is drained, or wanted for something else) ends its step and saves a
resume point first. A killed one loses at most the steps since the last. The next attempt takes them again with the same
losses: examples, order and random numbers of a step depend on the seed and the step's number alone.
"""

import shutil
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import PreTrainedModel

from lrm_safety import __version__, artefacts, observe, rendering
from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import Checkpoint, Lineage, TrainingSpec
from services.trainer import (
    continuing,
    engine_worker,
    export_worker,
    kernels_worker,
    method,
    outset_worker,
    proof_worker,
)
from services.trainer.attempt import EXIT_DONE, EXIT_INTERRUPTED, Attempt, Interrupted, carry_out, read_examples
from services.trainer.encoding import EncodedSet, encode_cached
from services.trainer.estimate import Shape, require_sense
from services.trainer.gauge_worker import Gauge
from services.trainer.method import Objective
from services.trainer.plan import Plan
from services.trainer.resume import ResumePoints
from services.trainer.resume_worker import Saved, Saver
from services.trainer.step_worker import Stepper

log = observe.logger(__name__)


def work(attempt: Attempt) -> None:
    """From the run's spec to a published Checkpoint; only rank 0 writes to the store."""
    spec = attempt.run.spec.training
    attempt.ledger.progress("preparing", 0, 1, "steps")
    base = artefacts.find(attempt.store, "checkpoints", Checkpoint, spec.base)
    engine_worker.join_processes()
    folder = fetch(attempt, base)
    rendering.prove(folder, spec.thinking, spec.template)
    precision = engine_worker.choose_precision(spec, attempt.ledger)
    shape = Shape.read(folder, base.parameters)
    outset_worker.reckon(shape, spec, precision)
    objective = method.load(spec.method, spec.options)
    encoded, model = _prepare(attempt, folder)
    objective.require(encoded.examples)
    attempt.ledger.facts["dropped_too_long"] = encoded.dropped
    lengths = encoded.examples.lengths()
    require_sense(shape, max(lengths), encoded.examples.largest_id())
    settled, needs = outset_worker.reckon(shape, spec, precision, lengths)
    way = proof_worker.agree(model, encoded.examples, spec, precision, attempt.ledger)
    trial = kernels_worker.agree(model, way, encoded.examples, spec, precision, attempt.ledger)
    done, saved = _resume(attempt)
    engine = engine_worker.make_engine(engine_worker.Trained(model, objective, way, spec), settled, precision, saved)
    training = Training(attempt, engine, objective, encoded)
    training.run(done, outset_worker.begin(attempt, model, settled, needs, trial, encoded))
    training.publish(base, folder, settled)


class Training:
    """The optimizer steps of one attempt."""

    def __init__(self, attempt: Attempt, engine: Any, objective: Objective, encoded: EncodedSet) -> None:
        self._attempt, self._engine, self._encoded = attempt, engine, encoded
        self._spec = attempt.run.spec.training
        self._plan = Plan(encoded.examples.lengths(), self._spec, encoded.examples.parts())
        self._stepper = Stepper(engine, objective, self._plan, encoded.examples)
        self._points = _points(attempt)
        self._saver = Saver(engine, self._points, self._spec.keep_resume_points)
        self._rank = dist.get_rank()
        self._was_asked_to_stop = False
        signal.signal(signal.SIGTERM, self._note_stop)
        log.info(
            "training_prepared",
            run=attempt.run.id,
            examples=len(encoded.examples),
            dropped_too_long=encoded.dropped,
            steps=self._plan.steps,
        )

    def run(self, done: int, gauge: Gauge) -> None:
        """All steps that are not done yet, with a resume point now and then."""
        try:
            for step in range(done, self._plan.steps):
                self._take(step, gauge)
            self._saver.settle()
        except InvalidInput as error:
            self._saver.close()
            raise InvalidInput(f"{error} (resume point kept: step {self._points.newest()})") from error
        finally:
            self._saver.close()

    def _take(self, step: int, gauge: Gauge) -> None:
        """A step and what follows it. Raises Interrupted once what was done is safe."""
        row, is_to_stop = self._stepper.take(step, self._was_asked_to_stop)
        if self._rank == 0:
            self._attempt.ledger.log_step(gauge.read(row))
            self._attempt.ledger.progress("training", step + 1, self._plan.steps, "steps")
        stops = is_to_stop and step + 1 < self._plan.steps
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
        if self._rank == 0:
            self._attempt.ledger.progress("publishing", 0, 1, "checkpoints")
        model, heads = self._engine.module.exported(), self._engine.module.heads
        state = engine_worker.host_state(model, engine_worker.base_dtype(folder))
        beside = engine_worker.host_state(heads, torch.float32)
        if self._rank == 0:
            export_worker.write_heads(self._attempt.store, self._attempt.run.id, beside)
            out = _scratch(self._attempt) / "result"
            export_worker.write_folder(model, state, folder, out, spec.template)
            export_worker.verify_folder(out, state, self._encoded.examples[0].ids)
            self._publish(base, out, spec)
        dist.barrier()

    def _publish(self, base: Checkpoint, out: Path, spec: TrainingSpec) -> None:
        lineage = Lineage(
            base=spec.base,
            dataset=spec.dataset,
            training=spec,
            run=self._attempt.run.id,
            code_version=__version__,
            licence=base.lineage.licence,
            examples=len(self._encoded.examples),
            dropped_too_long=self._encoded.dropped,
        )
        size = export_worker.count_parameters(out)
        checkpoint = Checkpoint(name=spec.name, lineage=lineage, step=self._plan.steps, parameters=size)
        self._attempt.ledger.finish(artefacts.publish(self._attempt.store, "checkpoints", out, checkpoint))
        if self._encoded.dropped:
            log.warning("examples_dropped", dropped_too_long=self._encoded.dropped, max_tokens=spec.max_tokens)
        self._points.clear()
        shutil.rmtree(_scratch(self._attempt), ignore_errors=True)

    def _note_stop(self, *_: object) -> None:
        self._was_asked_to_stop = True


def fetch(attempt: Attempt, base: Checkpoint) -> Path:
    """The base's files: one process of each machine fetches them, for all at once would need as many times the room."""
    fetched = partial(artefacts.fetch, attempt.store, "checkpoints", base, attempt.settings.state_dir / "models")
    if dist.get_node_local_rank(0) == 0:
        fetched()
    dist.barrier()
    return fetched()


def find_point(attempt: Attempt) -> tuple[str, int]:
    """(run, steps done) of the point that this attempt goes on from: its own newest, else that of what it continues."""
    own, before = _points(attempt).newest(), attempt.run.spec.training.continues
    if own or not before:
        return attempt.run.id, own
    done = ResumePoints(attempt.store, before).newest()
    if not done:
        raise InvalidInput(f"training.continues is {before}, whose resume points are gone: start anew without it")
    continuing.adopt(attempt.store, before, done, attempt.ledger)
    return before, done


def _points(attempt: Attempt) -> ResumePoints:
    return ResumePoints(attempt.store, attempt.run.id, attempt.ledger.attempt)


def _scratch(attempt: Attempt) -> Path:
    return attempt.settings.state_dir / "training" / attempt.run.id


def _resume(attempt: Attempt) -> tuple[int, Saved | None]:
    """(steps done before this attempt, the newest resume point on this machine's disk if there is one)."""
    found, folder = [find_point(attempt) if dist.get_rank() == 0 else ("", 0)], _scratch(attempt) / "resume"
    dist.broadcast_object_list(found, device=engine_worker.device())  # a lost attempt may be writing its last point yet
    points, done = ResumePoints(attempt.store, found[0][0]), found[0][1]
    if not done:
        return 0, None
    if dist.get_node_local_rank(0) == 0:
        points.download(done, folder)
    dist.barrier()
    saved = Saved(sorted(folder.glob("*.safetensors")))
    dist.barrier()
    if dist.get_node_local_rank(0) == 0:
        shutil.rmtree(folder)  # the open files stay readable
    log.info("training_resumed", run=attempt.run.id, of=points.run, step=done)
    return done, saved


def _prepare(attempt: Attempt, folder: Path) -> tuple[EncodedSet, PreTrainedModel]:
    """The examples are encoded, by one process of each machine, while the model is loaded."""
    spec, cache = attempt.run.spec.training, attempt.settings.state_dir / "encoded"
    with ThreadPoolExecutor(1) as pool:
        encoding = partial(encode_cached, partial(read_examples, attempt, spec.dataset), folder, spec, cache)
        is_first = dist.get_node_local_rank(0) == 0
        encoded = pool.submit(encoding) if is_first else None
        model = engine_worker.load_model(folder, is_hollow=spec.zero_stage == 3 and dist.get_rank() > 0)
        found = encoded.result() if encoded else None
        dist.barrier()
        return found or encoding(), model


if __name__ == "__main__":
    exit_code = carry_out(work)
    if exit_code in (EXIT_DONE, EXIT_INTERRUPTED):
        engine_worker.leave_processes()
    sys.exit(exit_code)
