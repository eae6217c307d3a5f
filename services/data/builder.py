"""The contract of a builder: one file in builders/ that makes one Example of one Row.

    OPTIONS = {"refusal": "the answer; default: a short apology"}     what PartSpec.options may say
    def build(row: Row, options: Mapping[str, str]) -> Example: ...

It fills prompt, thinking, answer and tags, and id when the row has one; provenance is the build's. A field that must
be there is read with `row.text`, which says what is wrong with the file. A row that is fine but not wanted raises
`Dropped("in two or three fixed words")`: it is counted under these words in the manifest, never lost in silence.

A builder that asks models has `write` in the place of `build`, plain code for one row (asking.py runs many at once):

    ASKS = ("writer",)                       whom the part must name; also "grader"
    def write(row: Row, ask: Ask) -> Example:
        text = template(__file__).substitute(question=required(row, "prompt"))
        completion = ask.writer([user(text)], Sampling(temperature=0.6, max_tokens=8000))
        ...

Options are in `ask.options`. Answers that are errors, cut or empty never come back: they raise Dropped with their
state; an answer in the wrong form is `Dropped("no list of names", "unparsed")`, a refusal `Dropped(..., "refused")`.
`ask.grader.understood(messages, sampling, read)` asks again when `read(answer)` raises it as unparsed.
What models were told lies beside the code, `<stem>.txt` or `<stem>.<piece>.txt`, with $names where fields go. These
texts and the modules named in `PARTS` (files of services/data) are part of the builder's digest.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template
from types import ModuleType

from lrm_safety import registry
from lrm_safety.errors import InvalidInput, NotFound
from lrm_safety.nouns import Example
from services.data.asking import Ask
from services.data.dropping import Dropped
from services.data.files import sha256
from services.data.options import check_options
from services.data.source import Row

__all__ = ["Builder", "Dropped", "code_digest", "find", "required", "tags", "template"]
FOLDER = "services.data.builders"
ANY_BUILDER = {"licence": "licence of the rows, when the source does not know it"}
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Builder:
    """One of `build` and `write` is there."""

    name: str
    digest: str  # of its code and prompts: a changed builder builds a new dataset
    build: Callable[[Row], Example] | None
    write: Callable[[Row, Ask], Example] | None = None
    asks: Sequence[str] = ()
    prompt_digest: str = ""


def find(name: str, options: Mapping[str, str]) -> Builder:
    """Raises NotFound for an unknown builder, InvalidInput for an option that it does not have."""
    if not name:
        names = ", ".join(plugin.name for plugin in registry.describe(FOLDER))
        raise InvalidInput(f"a part says no `builder`; expected one of: {names}")
    plugin = registry.load(FOLDER, name)
    check_options(f"builder {name}", options, {**plugin.OPTIONS, **ANY_BUILDER})
    write = getattr(plugin, "write", None)
    if write is None:
        return Builder(name, code_digest(plugin), lambda row: plugin.build(row, options))
    prompts = _digest(prompt_files(plugin)) if prompt_files(plugin) else ""
    return Builder(name, code_digest(plugin), None, write, getattr(plugin, "ASKS", ("writer",)), prompts)


def code_digest(plugin: ModuleType) -> str:
    """Of a plugin's code, its prompts, and the modules it names as PARTS."""
    parts = [_HERE / part for part in getattr(plugin, "PARTS", ())]
    code = Path(str(plugin.__file__))
    others = [*prompt_files(plugin), *parts]
    return _digest([code, *others]) if others else sha256(code)


def prompt_files(plugin: ModuleType) -> list[Path]:
    """What a plugin's models are told: <stem>.txt, <stem>.<piece>.txt, <stem>.yaml."""
    code = Path(str(plugin.__file__))
    return sorted(path for path in code.parent.glob(f"{code.stem}.*") if path.suffix in (".txt", ".yaml"))


@cache
def template(code: str, piece: str = "") -> Template:
    """The prompt beside a plugin's code: template(__file__) is <stem>.txt, template(__file__, "x") is <stem>.x.txt."""
    path = Path(code).with_suffix(f".{piece}.txt" if piece else ".txt")
    try:
        return Template(path.read_text(encoding="utf-8").strip())
    except FileNotFoundError:
        raise NotFound(f"the prompt {path.name} is missing beside its code") from None


def required(row: Row, name: str) -> str:
    """A field that must be there, as text without blank ends; an empty one drops the row."""
    text = row.text(name).strip()
    if not text:
        raise Dropped(f"empty {name}")
    return text


def tags(row: Row, names: str) -> dict[str, str]:
    """The fields named, separated by commas, as tags; without those that are empty."""
    found = {name.strip(): row.optional(name.strip()) for name in names.split(",")}
    return {name: value for name, value in found.items() if value}


def _digest(paths: Sequence[Path]) -> str:
    return hashlib.sha256("".join(f"{path.name} {sha256(path)}\n" for path in paths).encode()).hexdigest()
