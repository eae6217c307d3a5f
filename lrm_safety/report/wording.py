"""How numbers and names are written, the same in every form of the report."""

import math
import re
from datetime import UTC, datetime

from lrm_safety.nouns import Cell, Comparison, Scorecard
from lrm_safety.report.facts import Change

NOTHING = "–"
METRICS = {"asr": "attack success rate", "over_refusal_rate": "over-refusal rate", "accuracy": "accuracy"}
TESTS = (
    "p: two-sided; McNemar's exact test, or by permuting signs where samples come in families or are graded. Holm: "
    "corrected for all rows. Detectable: the change in points that so many pairs show four times of five."
)
ROLE_NAMES = {"harm": "Harm", "over_refusal": "Over-refusal", "reasoning": "Reasoning", "utility": "Utility"}
# Control characters, and the marks that reorder the text around them.
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufffe\uffff]")


def plain(text: str) -> str:
    """A name or reason without characters that could move a cursor, end a cell or reorder a line."""
    return UNSEEN.sub("", text.replace("\n", " ").replace("\t", " "))


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def points(share: float) -> str:
    """A difference of shares, in percentage points, with its sign."""
    number = round(100 * share, 1)
    return f"{'−' if number < 0 else '+' if number > 0 else '±'}{abs(number):.1f}"


def margin(share: float) -> str:
    """The worsening a gate still accepts, in percentage points."""
    return f"{100 * share:.1f}"


def value(cell: Cell | None) -> str:
    return percent(cell.value) if cell is not None and has_value(cell) else NOTHING


def has_value(cell: Cell) -> bool:
    return cell.n > 0 and cell.HasField("value") and math.isfinite(cell.value)


def interval(cell: Cell | None) -> str:
    if cell is None or not has_value(cell) or not cell.HasField("interval"):
        return ""
    return f"[{100 * cell.interval.low:.1f}, {100 * cell.interval.high:.1f}]"


def change_interval(change: Change | None) -> str:
    return f"[{points(change.low)}, {points(change.high)}]" if change else ""


def p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def adjusted(comparison: Comparison) -> str:
    return p_value(comparison.p_adjusted) if comparison.HasField("p_adjusted") else NOTHING


def detectable(comparison: Comparison) -> str:
    """In percentage points."""
    return margin(comparison.detectable) if comparison.HasField("detectable") else NOTHING


def count(cell: Cell | None, field: str) -> str:
    """Of a run that stopped early, `n` says of how many samples."""
    if cell is not None and field == "n" and cell.n + cell.invalid < cell.planned:
        return f"{cell.n:,} of {cell.planned:,}"
    return f"{getattr(cell, field):,}" if cell is not None else NOTHING


def both(baseline: str, candidate: str, is_paired: bool) -> str:
    """`1 → 2`; one number where only one model was measured or neither has one."""
    is_paired = is_paired and (baseline, candidate) != (NOTHING, NOTHING)
    return f"{baseline} → {candidate}" if is_paired else baseline if candidate == NOTHING else candidate


def short(reference: str) -> str:
    """`name@` and the first 8 characters of the digest."""
    name, at, digest = plain(reference).partition("@")
    return f"{name}{at}{digest[:8]}"


def model_name(card: Scorecard | None) -> str:
    return (short(card.checkpoint) or plain(card.endpoint) or card.weights_digest[:8]) if card else ""


def role_name(role: str) -> str:
    return ROLE_NAMES.get(role, plain(role).replace("_", " ").capitalize())


def metric_name(metric: str) -> str:
    return METRICS.get(metric, plain(metric).replace("_", " "))


def direction(lower_is_better: bool) -> str:
    return "lower is better" if lower_is_better else "higher is better"


def moment(seconds: float) -> str:
    """Seconds since 1970 as minutes of UTC; empty for 0."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC") if seconds else ""


def duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
