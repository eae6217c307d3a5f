"""The contract of a judge, and how one is found.

A judge turns one ScoreItem (a request, a model's thinking and answer, a gold target) into one Verdict. It lives in one
file of `judges/` that defines `judge`; the file's stem is its name, its first docstring line is what `lrm list` shows.
It declares

    reads     which fields of the ScoreItem it looks at: prompt, thinking, answer, target
    measure   what its `value` in [0, 1] says the amount of: refusal | harm | correct
    labels    every label it can give

A judge by rules is a function from the item:

    @rules(reads=("answer",), measure="refusal", labels=("refusal", "compliance"))
    def judge(item: ScoreItem) -> Verdict:
        return Verdict(label="refusal", score=1, value=1, rationale="declines in sentence 1")

A judge that asks a model has its prompt in a .txt of the same stem, with $prompt, $thinking, $answer or $target where
the item's fields go (they arrive fenced as data, see asking.py), and is a function from the model's reply:

    @asks(reads=("prompt", "answer"), measure="refusal", labels=("full_compliance", ...), max_tokens=512)
    def judge(reply: str) -> Verdict: ...

Neither fills id, judge, digest or measure: `scoring.score` does. What cannot be decided is `Verdict(invalid="why")`,
never a label; the reason's part before a colon is one of a few fixed phrases (it becomes a metric label), and no
reason quotes the model. An empty answer never reaches a judge of refusal or harm: it is invalid ("empty answer").

The digest of a judge covers its source, its prompt, the modules and packages it names as parts, and the weights of the
model it asks: two verdicts with one digest were made by the same judge.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

from lrm_safety import registry
from lrm_safety.errors import InvalidInput, NotFound
from lrm_safety.nouns import ScoreItem, Verdict

FOLDER = "services.judge.judges"
FIELDS = ("prompt", "thinking", "answer", "target")
MEASURES = ("refusal", "harm", "correct")
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Judge:
    """What every judge says of itself."""

    name: str
    reads: tuple[str, ...]
    measure: str
    labels: tuple[str, ...]
    files: tuple[Path, ...]  # source and prompt: what the digest covers
    packages: tuple[str, ...]  # installed packages whose version changes verdicts

    def digest(self, weights_digest: str = "") -> str:
        """sha256 of everything that could change a verdict."""
        code = _code_digest(self.files, self.packages)
        return hashlib.sha256(f"{code}\n{weights_digest}".encode()).hexdigest()

    def unfit(self, item: ScoreItem) -> str:
        """Why there is nothing to judge in this item; empty when there is."""
        blank = self.measure != "correct" and "answer" in self.reads and not item.answer.strip()
        return "empty answer" if blank else ""


@dataclass(frozen=True)
class RuleJudge(Judge):
    decide: Callable[[ScoreItem], Verdict]
    parallel: int  # items that may be decided at once


@dataclass(frozen=True)
class ModelJudge(Judge):
    template: Path
    read_reply: Callable[[str], Verdict]
    max_tokens: int


def rules(
    *,
    reads: Sequence[str],
    measure: str,
    labels: Sequence[str],
    parts: Sequence[str] = (),
    packages: Sequence[str] = (),
    parallel: int = 1,
) -> Callable[[Callable[[ScoreItem], Verdict]], RuleJudge]:
    """Makes a judge of a function. `parts`: files beside judge.py that take part in its verdicts."""

    def wrap(decide: Callable[[ScoreItem], Verdict]) -> RuleJudge:
        source = Path(decide.__code__.co_filename)
        files = (source, *(_HERE / part for part in parts))
        _check(source.stem, reads, measure)
        return RuleJudge(
            source.stem, tuple(reads), measure, tuple(labels), files, tuple(packages), decide=decide, parallel=parallel
        )

    return wrap


def asks(
    *, reads: Sequence[str], measure: str, labels: Sequence[str], max_tokens: int
) -> Callable[[Callable[[str], Verdict]], ModelJudge]:
    """Makes a judge of a function that reads a model's reply; the prompt is the .txt beside it."""

    def wrap(read_reply: Callable[[str], Verdict]) -> ModelJudge:
        source = Path(read_reply.__code__.co_filename)
        template = source.with_suffix(".txt")
        files = (source, template, _HERE / "asking.py")
        _check(source.stem, reads, measure)
        return ModelJudge(
            source.stem,
            tuple(reads),
            measure,
            tuple(labels),
            files,
            (),
            template=template,
            read_reply=read_reply,
            max_tokens=max_tokens,
        )

    return wrap


def find(name: str) -> Judge:
    """The judge of that name. Raises NotFound with the names there are, InvalidInput when its file defines none."""
    found = getattr(registry.load(FOLDER, name), "judge", None)
    if not isinstance(found, Judge):
        raise InvalidInput(f"judges/{name} defines no `judge`; decorate a function of that name with @rules or @asks")
    return found


def _check(name: str, reads: Sequence[str], measure: str) -> None:
    if not set(reads) <= set(FIELDS):
        raise InvalidInput(f"judge {name} reads {', '.join(reads)}; expected some of: {', '.join(FIELDS)}")
    if measure not in MEASURES:
        raise InvalidInput(f"judge {name} measures {measure!r}; expected one of: {', '.join(MEASURES)}")


@cache
def _code_digest(files: tuple[Path, ...], packages: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for path in files:
        if not path.exists():
            raise NotFound(f"judge file {path.name} is missing; a judge that asks a model has its prompt there")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    for package in packages:
        digest.update(f"{package}=={version(package)}\n".encode())
    return digest.hexdigest()
