"""The edge of the trainer's job processes: arguments in, exit code out, the reason kept in the run's ledger.

    python -m services.trainer.worker training-1f3a… 1

Exit codes: 0 done; 65 the input is wrong (asking again will not help); 75 it was asked to stop and saved where it was
(another attempt goes on); 1 anything else. Under torchrun the launcher's own code is 1 for all: the ledger, and the
resume points, tell them apart.
"""

import argparse
import errno
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from lrm_safety import artefacts, jsonl, observe
from lrm_safety.errors import Exhausted, InvalidInput, LrmError
from lrm_safety.nouns import Dataset, Example, Run
from lrm_safety.runs import read_run
from lrm_safety.settings import Settings
from lrm_safety.store import ObjectStore, open_store
from services.trainer.ledger import Ledger

EXIT_DONE, EXIT_FAILED, EXIT_INVALID_INPUT, EXIT_INTERRUPTED = 0, 1, 65, 75
log = observe.logger(__name__)


class Interrupted(Exception):
    """The process was asked to stop; what it had done is in a resume point."""


@dataclass(frozen=True)
class Attempt:
    """One process's share of one attempt at a run."""

    run: Run
    settings: Settings
    store: ObjectStore
    ledger: Ledger


def carry_out(work: Callable[[Attempt], None], arguments: Sequence[str] | None = None) -> int:
    """Runs the work of the run named in the arguments; returns the exit code."""
    parser = argparse.ArgumentParser(description="A job of the trainer; started by TrainerService.")
    parser.add_argument("run", help="id of the run in the store")
    parser.add_argument("attempt", type=int, help="1 for the first; counts up when a job was lost")
    chosen = parser.parse_args(arguments)
    settings = Settings.from_env()
    observe.configure(settings)
    store = open_store(settings)
    ledger = Ledger(store, chosen.run, chosen.attempt)
    try:
        work(Attempt(read_run(store, chosen.run), settings, store, ledger))
    except Interrupted:
        log.info("attempt_interrupted", run=ledger.run, attempt=ledger.attempt)
        return EXIT_INTERRUPTED
    except Exception as error:  # the process's edge: whatever it is, the run must learn of it
        log.error("attempt_failed", run=ledger.run, attempt=ledger.attempt, exc_info=error)
        reason = _as_ours(error)
        ledger.fail(reason)
        return EXIT_INVALID_INPUT if isinstance(reason, InvalidInput) else EXIT_FAILED
    return EXIT_DONE


def read_examples(attempt: Attempt, dataset: str) -> Iterator[Example]:
    """The rows of a dataset, in the order of its files."""
    found = artefacts.find(attempt.store, "datasets", Dataset, dataset)
    folder = artefacts.fetch(attempt.store, "datasets", found, attempt.settings.state_dir / "datasets")
    for entry in found.files:
        if entry.path.startswith("examples"):
            yield from jsonl.unpack(Example, (folder / entry.path).read_bytes())


def _as_ours(error: Exception) -> LrmError:
    if isinstance(error, LrmError):
        return error
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOSPC):
        return Exhausted(f"{type(error).__name__}: disk or memory is full; free some and ask again")
    if type(error).__name__ == "OutOfMemoryError":  # torch's, which the control plane does not have
        return Exhausted(
            "the GPU's memory is full; set gradient_checkpointing: true, a smaller micro_batch_size or max_tokens, or "
            "a higher zero_stage"
        )
    return LrmError(f"internal error ({type(error).__name__}); the job's log has the details")
