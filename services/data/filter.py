"""The contract of a filter: one file in filters/ that says of each Example whether it stays.

    OPTIONS = {"n": "words a run must share; default 8"}       what FilterSpec.options may say
    def prepare(context: FilterContext) -> Keep: ...

`prepare` is called once a build: it checks its options, reads what it compares with, and returns the function that is
given every example in order. Its answer is "" (keep) or the reason to drop, a few fixed words: each drop is counted
under them in the manifest. A filter that reads rows of its own opens them through the context, so that they belong to
the identity of the dataset.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from lrm_safety import registry
from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import Example, FilterSpec, SourceSpec
from lrm_safety.settings import Settings
from services.data.builder import check_options, code_digest
from services.data.source import Row, open_source, read_rows

FOLDER = "services.data.filters"
Keep = Callable[[Example], str]


@dataclass(frozen=True)
class FilterContext:
    name: str
    options: Mapping[str, str]
    settings: Settings
    inputs: list[str] = field(default_factory=list)  # digests of what was opened

    def rows(self, spec: SourceSpec) -> Iterator[Row]:
        source = open_source(spec, self.settings)
        self.inputs.append(source.digest)
        return read_rows(source, spec.fields)

    def count(self, option: str, default: int) -> int:
        """An option that is a whole number above zero; `default` when it is not given. Raises InvalidInput."""
        text = self.options.get(option, str(default))
        if not (text.isascii() and text.isdecimal()) or int(text) == 0:
            raise InvalidInput(f"filter {self.name}: {option} is {text!r}; expected a whole number above 0")
        return int(text)


def prepare(spec: FilterSpec, settings: Settings) -> tuple[Keep, list[str]]:
    """The filter, and digests of all that decides what it drops. Raises NotFound, InvalidInput."""
    if not spec.filter:
        names = ", ".join(plugin.name for plugin in registry.describe(FOLDER))
        raise InvalidInput(f"a filter has no name; expected one of: {names}")
    plugin = registry.load(FOLDER, spec.filter)
    check_options(f"filter {spec.filter}", spec.options, plugin.OPTIONS)
    context = FilterContext(spec.filter, spec.options, settings, [code_digest(plugin)])
    keep: Keep = plugin.prepare(context)
    return keep, context.inputs
