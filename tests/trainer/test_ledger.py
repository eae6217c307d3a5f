"""What a job writes and its service reads: metrics of several attempts, progress, errors, choices."""

from types import SimpleNamespace

import pytest
import torch

from lrm_safety import jsonl
from lrm_safety.errors import Exhausted, InvalidInput, LrmError
from lrm_safety.nouns import Checkpoint, Run, TrainingMetrics
from services.trainer import attempt
from services.trainer.ledger import Ledger


def log(ledger, steps, loss):
    for step in steps:
        ledger.log_step(TrainingMetrics(step=step, loss=loss))
    ledger.flush()


def test_of_a_step_trained_twice_the_later_attempt_counts(store):
    log(Ledger(store, "training-1", 1), (1, 2, 3), 1.0)
    log(Ledger(store, "training-1", 1), (4, 5), 1.0)
    log(Ledger(store, "training-1", 2), (3, 4), 2.0)
    rows = [(row.step, row.loss) for row in Ledger(store, "training-1").read_metrics()]
    assert rows == [(1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0), (5, 1.0)]


def test_progress_shows_the_newest_metrics(store):
    ledger = Ledger(store, "training-1", 1)
    assert ledger.read_progress() is None
    ledger.facts["dropped_too_long"] = 4
    ledger.log_step(TrainingMetrics(step=1, loss=3.0))
    ledger.progress("training", 1, 10, "steps")
    ledger.log_step(TrainingMetrics(step=2, loss=2.0))
    ledger.progress("training", 2, 10, "steps")  # too soon after the first
    assert (ledger.read_progress().done, ledger.read_progress().metrics["loss"]) == (1, 3.0)
    ledger.progress("publishing", 0, 1, "checkpoints")
    assert (ledger.read_progress().stage, ledger.read_progress().metrics["loss"]) == ("publishing", 2.0)
    assert ledger.read_progress().metrics["dropped_too_long"] == 4
    assert len(list(ledger.read_metrics())) == 2


def test_a_full_gpu_is_told_as_such(monkeypatch, settings, store):
    """Asking again will not help, but asking for less will."""
    store.write("runs/training-1/spec.json", jsonl.dumps(Run(id="training-1", kind="training")).encode())
    monkeypatch.setattr(attempt, "Settings", SimpleNamespace(from_env=lambda: settings))
    monkeypatch.setattr(attempt.observe, "configure", lambda settings: None)

    def work(_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    assert attempt.carry_out(work, ["training-1", "1"]) == attempt.EXIT_FAILED
    error = Ledger(store, "training-1").read_error(1)
    assert isinstance(error, Exhausted) and "smaller micro_batch_size" in str(error)


@pytest.mark.parametrize("error", [InvalidInput("a"), Exhausted("b"), LrmError("c")])
def test_errors_keep_their_kind(store, error):
    Ledger(store, "training-1", 2).fail(error)
    read = Ledger(store, "training-1").read_error(2)
    assert (type(read), str(read)) == (type(error), str(error))
    assert Ledger(store, "training-1").read_error(1) is None


def test_of_an_attempt_s_processes_the_first_to_fail_says_why(store):
    Ledger(store, "training-1", 1).fail(InvalidInput("the loss is not finite"))
    Ledger(store, "training-1", 1).fail(LrmError("internal error"))
    assert isinstance(Ledger(store, "training-1").read_error(1), InvalidInput)


def test_the_first_choice_stands(store):
    assert Ledger(store, "training-1", 1).choose("precision", "bf16") == "bf16"
    assert Ledger(store, "training-1", 2).choose("precision", "fp32") == "bf16"


def test_result(store):
    ledger = Ledger(store, "training-1", 1)
    assert ledger.read_result() is None
    ledger.finish(Checkpoint(name="tuned"))
    assert ledger.read_result().name == "tuned"
