"""The contract of a filter: one file in filters/ that says of each Example whether it stays.

    OPTIONS = {"n": "words a run must share; default 8"}       what FilterSpec.options may say
    def prepare(context: FilterContext) -> Keep: ...

`prepare` is called once a build: it checks its options, reads what it compares with, and returns the function that is
given the examples in order, a block of at most 512 at a time. It answers one reason each: "" (keep) or why not, a few
fixed words: each drop is counted under them in the manifest. A filter that looks at one example alone returns
`one_by_one(reason)`. It may add tags and verdicts to the examples it keeps. What else it found goes into
`context.findings`: labels for the funnel, prompts of benchmarks for the overlaps.

A filter that reads rows of its own opens them through the context, so that they belong to the identity of the dataset.
One that asks a model says `ASKS = ("grader",)`, and calls `context.ask(work, examples)` with a function
work(example, ask) -> reason; builder.py says what `ask` can do, where prompts lie, and what Dropped means. `work` may
add tags and verdicts, nothing else: reason, tags and provenance are what an owner of the run hands on to the next.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from lrm_safety import registry
from lrm_safety.clients import Clients
from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import Budget, Example, FilterSpec, SourceSpec, Written
from lrm_safety.settings import Settings
from services.data.asking import Ask, Asking, Models, add
from services.data.builder import code_digest
from services.data.embedding import Embedder
from services.data.findings import Findings
from services.data.options import check_options
from services.data.source import Row, open_source, read_rows

FOLDER = "services.data.filters"
Keep = Callable[[Sequence[Example]], list[str]]


@dataclass(frozen=True)
class FilterContext:
    """What a filter or selector is given."""

    name: str
    options: Mapping[str, str]
    settings: Settings
    asking: Asking
    inputs: list[str] = field(default_factory=list)  # digests of what was opened
    kind: str = "filter"
    findings: Findings = field(default_factory=Findings)
    step: str = ""  # what the funnel calls it

    def clients(self) -> Clients:
        """The other services, as the build reaches them."""
        return self.asking.clients

    def rows(self, spec: SourceSpec) -> Iterator[Row]:
        source = open_source(spec, self.settings)
        self.inputs.append(source.digest)
        return read_rows(source, spec.fields)

    def embedder(self) -> Embedder:
        """The build's, which its filters share. Raises NotFound, in words that say how to get it."""
        found = self.asking.embedder(self.settings)
        self.inputs.append(found.digest)
        return found

    def count(self, option: str, default: int) -> int:
        """An option that is a whole number above zero; `default` when it is not given. Raises InvalidInput."""
        text = self.options.get(option, str(default))
        if not (text.isascii() and text.isdecimal()) or int(text) == 0:
            raise InvalidInput(f"{self.kind} {self.name}: {option} is {text!r}; expected a whole number above 0")
        return int(text)

    def ask(self, work: Callable[[Example, Ask], str], examples: Sequence[Example]) -> list[str]:
        """The reasons that `work` gives, one an example and in their order; many are at work at once."""

        def one(example: Example) -> Written:
            written = Written(step=self.step, key=example.id)

            def fill(ask: Ask) -> None:
                try:
                    written.dropped = work(example, ask)
                finally:
                    written.example.CopyFrom(Example(tags=example.tags, provenance=example.provenance))

            return self.asking.finished(written, self.options, fill)

        reasons = []
        for example, written in zip(examples, self.asking.each(one, examples), strict=True):
            example.tags.clear()
            example.provenance.Clear()
            example.MergeFrom(written.example)
            reasons.append(written.dropped)
            add(self.asking.asked, written.asked)
        return reasons

    def judge(self, name: str) -> str:
        """Makes a judge part of the dataset's identity; `ask.judge(name, item)` then asks it. Raises InvalidInput."""
        self.inputs.append(self.asking.judge_digest(name))
        return name


def prepare(
    spec: FilterSpec, settings: Settings, models: Models | None = None, step: str = ""
) -> tuple[Keep, FilterContext]:
    """The filter, and its context with the digests of all that decides what it drops. Raises NotFound, InvalidInput."""
    if not spec.filter:
        names = ", ".join(plugin.name for plugin in registry.describe(FOLDER))
        raise InvalidInput(f"a filter has no name; expected one of: {names}")
    plugin = registry.load(FOLDER, spec.filter)
    check_options(f"filter {spec.filter}", spec.options, plugin.OPTIONS)
    asking = Asking(f"filter {spec.filter}", models or Models(lambda: Clients(settings), Budget()), grader=spec.grader)
    if "grader" in getattr(plugin, "ASKS", ()):
        asking.grader.needed()
    inputs = [code_digest(plugin), *asking.inputs]
    context = FilterContext(spec.filter, spec.options, settings, asking, inputs, step=step or spec.filter)
    keep: Keep = plugin.prepare(context)
    return keep, context


def one_by_one(reason: Callable[[Example], str]) -> Keep:
    return lambda examples: [reason(example) for example in examples]
