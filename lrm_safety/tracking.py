"""The contract of a tracker: one file in trackers/ that writes a training's metrics for another tool to show.

    def write(run: str, rows: Iterable[TrainingMetrics], folder: Path) -> str: ...

Numbers only: a step's metrics hold no text. They are read from the store, by who asks: a training does not know its
trackers, so a server that is away costs it nothing. A server's address and its keys are the tool's own settings.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from lrm_safety import registry
from lrm_safety.errors import InvalidInput, NotFound
from lrm_safety.nouns import TrainingMetrics

FOLDER = "lrm_safety.trackers"
SCALARS = ("loss", "token_accuracy", "learning_rate", "tokens_per_s", "grad_norm", "epoch", "mfu", "memory_gib")


def write(run: str, rows: Iterable[TrainingMetrics], tool: str, folder: Path) -> str:
    """Returns what a person opens: a folder, or an address.

    Raises NotFound for an unknown tool, InvalidInput when its package is missing, Unavailable when its server is away.
    """
    plugin = registry.load(FOLDER, tool)
    every = list(rows)
    if not every:
        raise NotFound(f"run {run} has logged no step yet; see `lrm runs why {run}`")
    try:
        written: str = plugin.write(run, every, folder)
    except ImportError as error:
        raise InvalidInput(f"{tool} is not installed here ({error}): pip install 'lrm-safety[{tool}]'") from error
    return written


def scalars(row: TrainingMetrics) -> Iterator[tuple[str, float]]:
    """Every number of a step by its name; a method's own terms as `terms/<name>`."""
    yield from ((name, getattr(row, name)) for name in SCALARS)
    yield from ((f"terms/{name}", value) for name, value in sorted(row.terms.items()))
