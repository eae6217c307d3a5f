"""What is told of a dataset without any of its text: licences, steps, shares, lengths, overlap with benchmarks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from lrm_safety.jsonl import to_dict
from lrm_safety.nouns import Dataset, Overlap, PartCounts, Step, TokenStats, reference
from lrm_safety.report import wording
from lrm_safety.report.templates import pretty, render

UNKNOWN = "licence not known"
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 620, 190, 44, 34, 150  # pixels of the histogram


@dataclass(frozen=True)
class Stage:
    """What one step of a part took `out` and why, and how many rows are `left` after it."""

    name: str
    out: int
    left: int
    why: str = ""  # reasons with their counts
    labels: str = ""  # of a filter that labels: label, before and after


@dataclass(frozen=True)
class Part:
    name: str
    licence: str
    stages: list[Stage]
    share: float  # of the dataset

    @property
    def most(self) -> int:
        return max((stage.left for stage in self.stages), default=0)


@dataclass(frozen=True)
class Share:
    value: str
    examples: int
    share: float  # of the dataset; values of one tag may add up to more than 1


@dataclass(frozen=True)
class Bar:
    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(frozen=True)
class Histogram:
    """Lengths of the responses, laid out for pages/lengths.svg."""

    bars: list[Bar]
    ticks: list[tuple[float, str]]  # along the tokens
    most: str  # examples of the highest bar
    width: int = _WIDTH
    height: int = _HEIGHT
    left: int = _LEFT
    top: int = _TOP
    bottom: int = _BOTTOM


def about(dataset: Dataset) -> dict[str, Any]:
    """What a dataset's page says."""
    drawn = histogram(dataset.response_tokens)
    return {
        "title": wording.short(reference(dataset.name, dataset.digest)),
        "facts": _facts(dataset),
        "dataset": dataset,
        "funnel": funnel(dataset),
        "shares": shares(dataset),
        "lengths": Markup(render("lengths.svg", plot=drawn)) if drawn else None,
        "tokens": tokens(dataset.response_tokens).capitalize(),
        "tokenizer": wording.short(dataset.spec.tokenizer),
        "overlaps": [(each.benchmark, overlap(each), each.shared) for each in dataset.overlaps],
        "spec": pretty(to_dict(dataset.spec)),
    }


def counts(dataset: Dataset) -> str:
    """How many examples there are, and what is not as it should be."""
    others = [(dataset.unanswered, "without an answer"), (dataset.bad_rows, "bad rows skipped")]
    return ", ".join([f"{dataset.examples:,}", *(f"{n:,} {what}" for n, what in others if n)])


def licences(dataset: Dataset) -> list[str]:
    return list(dict.fromkeys(part.licence or UNKNOWN for part in dataset.parts))


def funnel(dataset: Dataset) -> list[Part]:
    """Part by part: rows read, what each step took and why, what came out."""
    whole = sum(part.kept for part in dataset.parts) or 1
    return [Part(part.name, part.licence, _stages(dataset, part), part.kept / whole) for part in dataset.parts]


def shares(dataset: Dataset) -> dict[str, list[Share]]:
    """By tag, the greatest first."""
    every = dataset.examples or 1
    return {
        each.tag: [Share(value, n, n / every) for value, n in sorted(each.examples.items(), key=lambda item: -item[1])]
        for each in dataset.shares
    }


def overlap(found: Overlap) -> str:
    """What is known of one benchmark, in words."""
    if found.unchecked:
        return f"not compared: {found.unchecked}"
    taken = f"; {len(found.dropped):,} taken out before" if found.dropped else ""
    return f"{found.shared:,} of {found.examples:,} prompts{taken}"


def tokens(stats: TokenStats) -> str:
    return (
        f"mean {stats.mean:.1f}, 90th percentile {stats.p90:.0f}, longest {stats.max:,}; {stats.total:,.0f} in all"
        if stats.total
        else "not counted"
    )


def asked(dataset: Dataset) -> str:
    """How asking models ended, for rows; empty when none was asked."""
    seen = dataset.asked
    ends = [(seen.refused, "refused"), (seen.bad_finish, "cut"), (seen.unparsed, "not parsed"), (seen.failed, "failed")]
    if not seen.questions:
        return ""
    others = "".join(f", {n:,.0f} {word}" for n, word in ends if n)
    spent = f"{seen.completion_tokens:,.0f} tokens written" + (f", cost {seen.cost:.2f}" if seen.cost else "")
    return f"{seen.completed:,.0f} of {seen.rows:,.0f} rows answered{others}; {seen.questions:,.0f} questions, {spent}"


def histogram(stats: TokenStats) -> Histogram | None:
    """None without counts."""
    counts, step = list(stats.histogram), stats.bin_tokens
    if not any(counts):
        return None
    wide, most = (_WIDTH - _LEFT - 16) / len(counts), max(counts)
    bars = []
    for place, count in enumerate(counts):
        high = round((_BOTTOM - _TOP) * count / most, 1)
        title = f"{place * step:,} to {(place + 1) * step - 1:,} tokens: {count:,} examples"
        bars.append(Bar(round(_LEFT + place * wide, 1), _BOTTOM - high, round(max(1, wide - 2), 1), high, title))
    every = -(-len(counts) // 6)
    ticks = [(round(_LEFT + place * wide, 1), f"{place * step:,}") for place in range(0, len(counts) + 1, every)]
    return Histogram(bars, ticks, f"{most:,}")


def _facts(dataset: Dataset) -> list[tuple[str, str]]:
    facts = [
        ("Examples", counts(dataset)),
        ("Licence", "; ".join(licences(dataset))),
        ("Built", wording.moment(dataset.created_at)),
        ("Models asked", asked(dataset)),
        ("Digest", dataset.digest),
    ]
    return [(name, value) for name, value in facts if value]


def _stages(dataset: Dataset, part: PartCounts) -> list[Stage]:
    """The steps of the build; of a manifest without them, the reasons of all steps together."""
    steps = [step for step in dataset.funnel if step.part == part.name]
    if not steps:
        return _reasons(part)
    return [_stage(step) for step in steps]


def _stage(step: Step) -> Stage:
    labels = [
        f"{label} {step.before[label]:,} → {step.after[label]:,}" for label in sorted({*step.before, *step.after})
    ]
    return Stage(step.step, step.read - step.kept, step.kept, why(step.dropped), ", ".join(labels))


def why(dropped: Mapping[str, int]) -> str:
    return ", ".join(
        f"{n:,} {wording.plain(reason)}" for reason, n in sorted(dropped.items(), key=lambda item: -item[1])
    )


def _reasons(part: PartCounts) -> list[Stage]:
    stages, left = [Stage("read", 0, part.read)], part.read
    for reason, rows in sorted(part.dropped.items()):
        left -= rows
        stages.append(Stage(reason, rows, left))
    if left > part.kept:
        stages.append(Stage("not drawn", left - part.kept, part.kept))
    return stages
