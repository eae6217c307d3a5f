"""The contract of an export: one file in exports/ that writes a measured run in another tool's form.

    def write(run: MeasuredRun, folder: Path, is_with_text: bool) -> list[Path]: ...

Texts (prompts, targets, thinking, answers, rationales) leave only when they are asked for. Without them stands how long
each was and its sha256, by which two exports can still be compared. Verdicts, counts and intervals always leave.
"""

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lrm_safety import registry
from lrm_safety.errors import Conflict, Exhausted, NotFound
from lrm_safety.nouns import BenchmarkSpec, Cell, Record, Scorecard

FOLDER = "lrm_safety.exports"


@dataclass(frozen=True)
class MeasuredRun:
    """A bench run. `records()` streams its Records, each key once; it may be called more than once."""

    scorecard: Scorecard
    records: Callable[[], Iterator[Record]]

    @property
    def model(self) -> str:
        return self.scorecard.checkpoint or self.scorecard.endpoint or "unknown"

    @property
    def cells(self) -> dict[tuple[str, str, str], Cell]:
        """By benchmark, attack and judge."""
        return {(cell.benchmark, cell.attack, cell.judge): cell for cell in self.scorecard.cells}

    @property
    def asked(self) -> dict[str, BenchmarkSpec]:
        """What was asked of each benchmark, by its name."""
        return {each.benchmark: each for each in self.scorecard.spec.benchmarks}


def write(run: MeasuredRun, form: str, folder: Path, *, is_with_text: bool = False) -> list[Path]:
    """Writes the run in a form of exports/; returns the files' paths.

    Raises NotFound for an unknown form and for a run without cells, Conflict when the folder cannot be written,
    Exhausted when the disk is full.
    """
    plugin = registry.load(FOLDER, form)
    if not run.scorecard.cells:
        raise NotFound(f"run {run.scorecard.run} has no cells: nothing was measured that could be exported")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written: list[Path] = plugin.write(run, folder, is_with_text)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Exhausted(f"no space left for the export in {folder}; free some and ask again") from error
        raise Conflict(f"the export cannot be written to {folder} ({error.strerror}); name another folder") from error
    return written


@contextmanager
def landing(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to; it becomes `path` when the block ends well, and is removed when it does not."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def digest(text: str) -> str:
    """sha256 of a text, in hex; empty for an empty one."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest() if text else ""


def shown(text: str, is_with_text: bool) -> str:
    """The text itself, or what stands for it."""
    if is_with_text or not text:
        return text
    return f"[withheld: {len(text)} characters, sha256 {digest(text)[:16]}]"
