"""Going on with a training that stopped, as a run of its own on other processes: TrainingSpec.continues."""

from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import TrainingSpec
from lrm_safety.runs import read_run
from lrm_safety.store import ObjectStore
from services.trainer.ledger import Ledger
from services.trainer.resume import ResumePoints

MAY_DIFFER = {  # how it is carried out, not what is trained
    "name",
    "continues",
    "processes",
    "nodes",
    "node_pool",
    "zero_stage",
    "offload",
    "micro_batch_size",
    "gradient_checkpointing",
    "save_every_steps",
    "keep_resume_points",
}


def require_point(store: ObjectStore, spec: TrainingSpec) -> None:
    """Raises NotFound (no such run), InvalidInput (it trains something else, or has no resume point)."""
    run = read_run(store, spec.continues)
    before = run.spec.training
    names = [field.name for field in TrainingSpec.DESCRIPTOR.fields if field.name not in MAY_DIFFER]
    others = [name for name in names if getattr(before, name) != getattr(spec, name)]
    if run.kind != "training" or others:
        raise InvalidInput(
            f"training.continues is {run.id}, which differs in {', '.join(others) or 'its kind'}; expected the same "
            f"training, of which only {', '.join(sorted(MAY_DIFFER - {'continues'}))} may be other"
        )
    if not ResumePoints(store, run.id).newest():
        raise InvalidInput(f"training.continues is {run.id}, which has no resume point: start anew without it")


def adopt(store: ObjectStore, run: str, done: int, ledger: Ledger) -> None:
    """The metrics of the steps that another run has done, so that the curve is whole."""
    for row in Ledger(store, run).read_metrics():
        if row.step <= done:
            ledger.log_step(row)
    ledger.flush()
