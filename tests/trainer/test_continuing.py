"""Which run may be gone on with, and what comes along."""

import pytest

from lrm_safety import jsonl
from lrm_safety.errors import InvalidInput, NotFound
from lrm_safety.nouns import Run, RunSpec, TrainingMetrics, TrainingSpec
from services.trainer import worker
from services.trainer.attempt import Attempt
from services.trainer.continuing import adopt, require_point
from services.trainer.ledger import Ledger
from services.trainer.resume import ResumePoints


@pytest.fixture
def stopped(store):
    """A training of 4 processes whose newest resume point is at step 2."""
    spec = TrainingSpec(name="a", base="b@1", dataset="d@1", processes=4, zero_stage=3, learning_rate=1e-5)
    store.write(
        "runs/training-1/spec.json",
        jsonl.dumps(Run(id="training-1", kind="training", spec={"training": spec})).encode(),
    )
    ledger = Ledger(store, "training-1", 1)
    for step in (1, 2, 3):
        ledger.log_step(TrainingMetrics(step=step, loss=step))
    ledger.flush()
    points = ResumePoints(store, "training-1", 1)
    points.write_share(2, 0, {})
    points.complete(2, 1, 1, lambda: True)
    return spec


def asked(spec, **changes):
    new = TrainingSpec()
    new.CopyFrom(spec)
    new.MergeFrom(TrainingSpec(continues="training-1", **changes))
    return new


def test_the_same_training_on_other_processes(store, stopped):
    require_point(store, asked(stopped, processes=1, zero_stage=1, name="c", micro_batch_size=8))
    with pytest.raises(InvalidInput, match="differs in learning_rate; expected the same training"):
        require_point(store, asked(stopped, learning_rate=2e-5))
    with pytest.raises(NotFound):
        require_point(store, TrainingSpec(continues="training-2"))


def test_a_run_without_a_resume_point(store, stopped):
    ResumePoints(store, "training-1").clear()
    with pytest.raises(InvalidInput, match="has no resume point"):
        require_point(store, asked(stopped))


def test_a_run_of_another_kind(store, stopped):
    store.write("runs/training-1/spec.json", jsonl.dumps(Run(id="training-1", kind="import", spec=RunSpec())).encode())
    with pytest.raises(InvalidInput, match="differs in"):
        require_point(store, asked(stopped))


def test_the_curve_comes_along_up_to_the_point(store, stopped):
    ledger = Ledger(store, "training-3", 1)
    adopt(store, "training-1", 2, ledger)
    assert [row.loss for row in ledger.read_metrics()] == [1, 2]


def test_points_that_are_gone_meanwhile(store, settings, stopped):
    """The run that is continued was asked for again, and is done."""
    ResumePoints(store, "training-1").clear()
    run = Run(id="training-3", spec=RunSpec(training=asked(stopped)))
    attempt = Attempt(run, settings, store, Ledger(store, run.id, 1))
    with pytest.raises(InvalidInput, match="training-1, whose resume points are gone"):
        worker.find_point(attempt)
