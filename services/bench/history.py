"""What earlier checkpoints of a line answered to the samples of a gate: known before the candidate is asked.

    measured/<line>/<suite>/<created at>-<digest>    the bench run of a checkpoint that got a verdict, whatever it was

A gate about its items asks those first that earlier checkpoints answered otherwise than the baseline. Which runs it
looks at is written down when it is first asked, so every owner of the run draws the same order; that the order knows
of them takes nothing from what a verdict claims, since the candidate's own answers are not among them.
"""

from lrm_safety.gates import ITEMS
from lrm_safety.nouns import Checkpoint, GateSpec
from lrm_safety.store import ObjectStore
from services.bench.compare import Side, is_same_question
from services.bench.noise import suite_digest

MOST = 4  # of the newest


def note(store: ObjectStore, checkpoint: Checkpoint, spec: GateSpec, run: str) -> None:
    """The gate of a checkpoint has ended, and this is the bench run that measured it."""
    store.create(f"{_measured(checkpoint, spec)}{checkpoint.created_at:020.6f}-{checkpoint.digest}", run.encode())


def choose(store: ObjectStore, checkpoint: Checkpoint, spec: GateSpec) -> list[str]:
    """Bench runs of the newest other checkpoints of this line on this suite, oldest first; the baseline is known."""
    if spec.gate.claim != ITEMS:
        return []
    known = (checkpoint.digest, spec.baseline.rpartition("@")[2])
    keys = [key for key in sorted(store.list(_measured(checkpoint, spec))) if not key.endswith(known)]
    return [store.read(key).decode() for key in keys[-MOST:]]


def answers(earlier: Side, baseline: Side, role: str) -> dict[str, float]:
    """Record key -> value, where the same judge read the answer to the same sample as in the baseline."""
    found = {}
    for cell in baseline.deciding(role):
        key = (cell.benchmark, cell.attack, cell.judge)
        for record, seen in earlier.seen.get(key, {}).items():
            if seen.value is not None and is_same_question(earlier, baseline, key, record):
                found[record] = seen.value
    return found


def _measured(checkpoint: Checkpoint, spec: GateSpec) -> str:
    return f"measured/{checkpoint.name}/{suite_digest(spec.evaluation)}/"
