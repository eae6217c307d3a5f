"""What a filter found beside its reasons to drop: prompts of benchmarks, and what the examples are like."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from lrm_safety.nouns import Dataset, Example, Match, Overlap


@dataclass
class Findings:
    matches: list[Match] = field(default_factory=list)
    unchecked: dict[str, str] = field(default_factory=dict)  # benchmark -> why it was not compared
    _before: Counter[tuple[str, str]] = field(default_factory=Counter)  # (part, label) -> examples
    _after: Counter[tuple[str, str]] = field(default_factory=Counter)

    def label(self, example: Example, labels: Iterable[str], stays: bool) -> None:
        """Counts an example under what it is like, before the filter and, when it stays, after it."""
        part = example.id.partition("/")[0]
        for each in labels:
            self._before[part, each] += 1
            self._after[part, each] += stays

    def tell(self, manifest: Dataset, step: str) -> None:
        """Writes down what was found, in the funnel under the filter's step and beside the overlaps."""
        for each in manifest.funnel:
            if each.step == step:
                each.before.update({label: n for (part, label), n in self._before.items() if part == each.part})
                each.after.update({label: n for (part, label), n in self._after.items() if part == each.part})
        overlaps = {each.benchmark: each for each in manifest.overlaps}
        for name in {match.benchmark: 0 for match in self.matches} | dict.fromkeys(self.unchecked, 0):
            if name not in overlaps:
                overlaps[name] = manifest.overlaps.add()
                overlaps[name].CopyFrom(Overlap(benchmark=name, unchecked=self.unchecked.get(name, "")))
        for match in self.matches:
            overlaps[match.benchmark].dropped.append(match)
