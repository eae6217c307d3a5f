"""Why the gate decides as it does, in words and numbers. Never a word of a model."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from lrm_safety.gates import ITEMS, SEQUENTIAL, WIDER
from lrm_safety.nouns import Comparison, Gate, Interval, Savings, Waiver
from lrm_safety.stats import Shown, corrected
from services.bench.calibrated import PERFECT, UNKNOWN, Sharpness
from services.bench.compare import Side
from services.bench.terms import Terms

AXES = ("harm", "over_refusal", "reasoning")  # that belong together
_WORDS = {
    Shown.NOT_WORSE: "not worse by more than the margin",
    Shown.WORSE: "worse",
    Shown.OPEN: "too little data to tell",
}


@dataclass(frozen=True)
class Finding:
    """What one role's pairs show."""

    comparison: Comparison
    shown: Shown
    worst: Interval | None  # of the difference, when samples without a verdict are all good, or all bad
    doubts: list[str] = field(default_factory=list)  # why it cannot pass all the same
    read: int = 0  # sequential: records
    planned: int = 0


def reason_of(found: Finding, terms: Terms, margin: float, sharp: Sharpness) -> str:
    parts = [_numbers(found.comparison, terms, margin)]
    if terms.gate.method == SEQUENTIAL:
        parts.append(f"{found.read} of {found.planned} samples read in the drawn order")
    if found.shown is Shown.OPEN and found.comparison.HasField("detectable"):
        parts.append(_detectable(found.comparison))
    if sharp != PERFECT:
        parts.append(_corrected(found.comparison, margin, sharp))
    if found.worst is not None:
        ends = f"[{_points(found.worst.low)}, {_points(found.worst.high)}]"
        parts.append(f"were all without a verdict good or all bad: {ends} points")
    is_blurred = sharp.low <= 0
    words = "its judge is too uncertain to tell" if is_blurred else _WORDS[found.shown]
    return f"{words} ({'; '.join(parts)})"


def missing(gate: Gate, what: str, invalid: int, truncated: int, total: int) -> list[str]:
    """Reasons not to pass, when more samples than allowed have no verdict or no end: those may be the bad ones."""
    lines = []
    if invalid > gate.max_invalid * total:
        lines.append(
            f"{what}: {invalid} of {total} samples have no verdict, more than the {gate.max_invalid:.1%} allowed"
        )
    if truncated > gate.max_truncated * total:
        lines.append(
            f"{what}: {truncated} of {total} completions are cut, more than the {gate.max_truncated:.1%} allowed"
        )
    return lines


def waiver_line(waiver: Waiver) -> str:
    return f"waived: {waiver.what}, by {waiver.who}, until {waiver.until}: {waiver.why}"


def unasked_line(gate: Gate) -> list[str]:
    """A verdict says nothing of an axis that has no margin."""
    unasked = [axis for axis in AXES if axis not in gate.margins]
    return [f"not looked at, for want of a margin: {', '.join(unasked)}"] if unasked else []


def saved_line(saved: Savings) -> list[str]:
    """What a stop saved, and that the tables beside the decision do not know of it."""
    if not saved.skipped:
        return []
    return [
        "tables show what was asked until it was decided: their intervals and p-values take that number for set "
        "before, and do not hold as those of the roles do",
        f"decided with {saved.dispatched:,.0f} of {saved.planned:,.0f} samples asked; the other {saved.skipped:,.0f} "
        f"would have taken {saved.tokens:,.0f} tokens and {saved.gpu_seconds:,.0f} GPU-seconds (estimated)",
    ]


def claim_line(gate: Gate) -> list[str]:
    """What the verdict is about, where the gate says it."""
    about = {
        WIDER: "samples like these, asked again",
        ITEMS: "these very samples as answered this time, and not for others like them",
    }
    return [f"claim {gate.claim}: holds for {about[gate.claim]}"] if gate.claim in about else []


def history_line(earlier: Sequence[Side]) -> list[str]:
    runs = ", ".join(side.scorecard.run for side in earlier)
    return [f"the order was drawn knowing what earlier checkpoints answered: {runs}"] if earlier else []


def _numbers(made: Comparison, terms: Terms, margin: float) -> str:
    ends, alpha = made.interval, terms.gate.alpha
    looks = "at every look, " if terms.gate.method == SEQUENTIAL else "one-sided, "
    level = f"{looks}worse at {1 - terms.block_alpha:.1%} and not worse at {1 - alpha:.1%}"
    return (
        f"{made.baseline:.1%} → {made.candidate:.1%}, worsening {_points(made.difference)} points "
        f"[{_points(ends.low)}, {_points(ends.high)}] {level}, "
        f"margin {100 * margin:.1f}, {made.pairs} pairs, {made.unpaired} unpaired"
    )


def _detectable(made: Comparison) -> str:
    differing = (made.worse + made.better) / made.pairs
    return (
        f"{made.pairs} pairs, {differing:.0%} of them differing, read once, show a worsening of "
        f"{100 * made.detectable:.1f} points four times of five"
    )


def _corrected(made: Comparison, margin: float, sharp: Sharpness) -> str:
    """The interval pays half of its level for the judge's: at 1 - 2 (1 - that of the observed difference)."""
    if sharp == UNKNOWN:
        return "a difference is freed from the errors of one judge whose were counted, not from those of several"
    if sharp.value <= 0:
        return "its judge agrees with people no better than chance"
    level = 1 - 2 * (1 - made.interval.level)
    ends = corrected((made.interval.low, made.interval.high), sharp.hits, sharp.passes, level)
    within = f" [{_points(ends[0])}, {_points(ends[1])}] at {level:.0%}" if ends else ""
    return (
        f"freed from the judge's errors {_points(made.difference / sharp.value)} points{within}: "
        f"the judge sees {sharp.value:.0%} of a difference, at least {sharp.low:.0%}, "
        f"so {100 * margin * sharp.low:.1f} points is what was tested"
    )


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"
