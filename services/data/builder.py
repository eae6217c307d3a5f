"""The contract of a builder: one file in builders/ that makes one Example of one Row.

    OPTIONS = {"refusal": "the answer; default: a short apology"}     what PartSpec.options may say
    def build(row: Row, options: Mapping[str, str]) -> Example: ...

It fills prompt, thinking, answer and tags, and id when the row has one; provenance is the build's. A field that must
be there is read with `row.text`, which says what is wrong with the file. A row that is fine but not wanted raises
`Dropped("in two or three fixed words")`: it is counted under these words in the manifest, never lost in silence.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from lrm_safety import registry
from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import Example
from services.data.files import sha256
from services.data.source import Row

FOLDER = "services.data.builders"
ANY_BUILDER = {"licence": "licence of the rows, when the source does not know it"}


class Dropped(Exception):
    """A row that makes no example; str() is the reason it is counted under."""


@dataclass(frozen=True)
class Builder:
    name: str
    digest: str  # of its code: a changed builder builds a new dataset
    build: Callable[[Row], Example]


def find(name: str, options: Mapping[str, str]) -> Builder:
    """Raises NotFound for an unknown builder, InvalidInput for an option that it does not have."""
    if not name:
        names = ", ".join(plugin.name for plugin in registry.describe(FOLDER))
        raise InvalidInput(f"a part says no `builder`; expected one of: {names}")
    plugin = registry.load(FOLDER, name)
    check_options(f"builder {name}", options, {**plugin.OPTIONS, **ANY_BUILDER})
    return Builder(name, code_digest(plugin), lambda row: plugin.build(row, options))


def check_options(owner: str, given: Mapping[str, str], known: Mapping[str, str]) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        allowed = "; ".join(f"{name} ({what})" for name, what in known.items())
        raise InvalidInput(f"{owner} has no option {', '.join(unknown)}; it has: {allowed or 'none'}")


def code_digest(plugin: ModuleType) -> str:
    return sha256(Path(str(plugin.__file__)))


def required(row: Row, name: str) -> str:
    """A field that must be there, as text without blank ends; an empty one drops the row."""
    text = row.text(name).strip()
    if not text:
        raise Dropped(f"empty {name}")
    return text
