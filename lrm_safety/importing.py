"""The contract of an import: one file in imports/ that reads another tool's log as a scorecard's head and records.

    def matches(path: Path) -> bool: ...
    def read(path: Path, roles: Mapping[str, Meaning]) -> Foreign: ...

The file says what was asked and what its scorers said. What a scorer means for safety it does not say: the role (harm,
over_refusal, reasoning, utility) comes from whoever imports, unless the log was made by `lrm export`. Numbers come out
of the records by the very code that scores our own runs. A score that is no number in [0, 1] is a counted absence.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lrm_safety import registry
from lrm_safety.errors import InvalidInput, NotFound
from lrm_safety.nouns import ROLES, BenchmarkSpec, JudgeSpec, Record, Scorecard, Verdict

FOLDER = "lrm_safety.imports"
MADE_BY = "lrm-safety"
MEASURES = ("harm", "refusal", "correct")
_DEFAULT_MEASURE = {"harm": "harm", "over_refusal": "refusal", "reasoning": "correct", "utility": "correct"}


@dataclass(frozen=True)
class Meaning:
    """What a task's scores speak of: the role, and what a score of 1 means (harm, refusal, correct)."""

    role: str
    measure: str


@dataclass(frozen=True)
class Foreign:
    """The scorecard has the model's name as endpoint, spec, origin; and cells of tasks whose samples are missing."""

    scorecard: Scorecard
    records: list[Record] = field(default_factory=list)


def read(path: Path, roles: Sequence[str]) -> Foreign:
    """A log file or a folder of them. `roles` are task=role or task=role:measure.

    Raises NotFound for a missing path, InvalidInput for one that no format knows, a broken log, and a task whose role
    nobody said.
    """
    if not path.exists():
        raise NotFound(f"there is no {path}; name a log file or a folder of logs")
    given = meanings(roles)
    for plugin in registry.describe(FOLDER):
        module = registry.load(FOLDER, plugin.name)
        if module.matches(path):
            foreign: Foreign = module.read(path, given)
            return foreign
    known = ", ".join(f"{plugin.name} ({plugin.summary.rstrip('.')})" for plugin in registry.describe(FOLDER))
    raise InvalidInput(f"{path} is no log that can be read here; expected one of: {known}")


def meanings(roles: Sequence[str]) -> dict[str, Meaning]:
    """From task=role or task=role:measure. Raises InvalidInput naming what is wrong."""
    made = {}
    for text in roles:
        task, _, said = text.rpartition("=")
        role, _, measure = said.partition(":")
        if not task or role not in ROLES or (measure and measure not in MEASURES):
            raise InvalidInput(
                f"--role {text!r}: expected task=role or task=role:measure, for example xstest=over_refusal:refusal; "
                f"roles are {', '.join(ROLES)}, measures {', '.join(MEASURES)}"
            )
        made[task] = Meaning(role, measure or _DEFAULT_MEASURE[role])
    return made


def meaning_of(task: str, roles: Mapping[str, Meaning], own: str = "") -> Meaning:
    """What was said, else the role that our own export noted. Raises InvalidInput when neither is there."""
    if task in roles:
        return roles[task]
    if own in ROLES:
        return Meaning(own, _DEFAULT_MEASURE[own])
    raise InvalidInput(f"what does {task} measure? Say --role {task}=harm (or {', '.join(ROLES[1:])})")


def verdict(judge: str, value: Any, meaning: Meaning, reason: str = "") -> Verdict:
    """A foreign score as a verdict: true, false, C(orrect), P(artial), I(ncorrect), N(one), or a number in [0, 1]."""
    letters = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
    number = letters.get(value) if isinstance(value, str) else value
    made = Verdict(judge=judge)
    if not isinstance(number, bool | int | float) or math.isnan(number):
        made.invalid = reason or "the score is no number"
    elif not 0 <= number <= 1:
        made.invalid = "the score is outside of 0 to 1"
    else:
        made.value = made.score = float(number)
        made.measure, made.label = meaning.measure, str(value)
    return made


def asked_of(spec: Mapping[str, Mapping[str, Sequence[str]]], repeats: Mapping[str, int]) -> list[BenchmarkSpec]:
    """benchmark -> attack -> judges, as a spec says it."""
    return [
        BenchmarkSpec(
            benchmark=name,
            attacks=list(attacks),
            judges=[
                JudgeSpec(judge=judge) for judge in dict.fromkeys(judge for each in attacks.values() for judge in each)
            ],
            repeats=repeats.get(name, 1),
        )
        for name, attacks in spec.items()
    ]


def digest(paths: Sequence[Path]) -> str:
    """sha256 over the files' own, so that the same logs are the same import."""
    parts = []
    for path in sorted(paths):
        with path.open("rb") as file:
            parts.append(hashlib.file_digest(file, "sha256").hexdigest())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest() if len(parts) != 1 else parts[0]
