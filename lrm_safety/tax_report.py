"""A safety tax in words and numbers: JSON for scripts, Markdown for people, rows for the terminal."""

from typing import Any

from lrm_safety import stats
from lrm_safety.report import wording
from lrm_safety.tax import ROLES, Axis, Paid, Price, Tax

SCHEMA = 1
COLUMNS = ("run", "harm", "over-refusal", "reasoning", "on the frontier", "with over-refusal", "price of a point")
_NAMES = {"harm": "Harm", "over_refusal": "Over-refusal", "reasoning": "Reasoning"}


def as_json(tax: Tax) -> dict[str, Any]:
    """Stable for scripts. Shares are in [0, 1]; a price is points of reasoning for one point less harm, or null.

    - schema, baseline (its run), level, resamples, left_out {role: samples}
    - runs: [{run, name, axes, is_on_frontier, on_frontier, on_frontier_of_three, price}]
      - axes: {role: {value, low, high, n, invalid, change: {value, low, high}}}
      - price: {value, low, high, undefined}
    """
    return {
        "schema": SCHEMA,
        "baseline": tax.runs[0].run,
        "level": tax.level,
        "resamples": tax.resamples,
        "left_out": dict(tax.left_out),
        "runs": [_run(paid) for paid in tax.runs],
    }


def rows(tax: Tax) -> list[tuple[str, ...]]:
    """COLUMNS of each run."""
    return [
        (
            wording.plain(paid.name),
            *(axis_words(paid.axes.get(role)) for role in ROLES),
            chance_words(paid.on_frontier),
            wording.NOTHING if paid.on_frontier_of_three is None else chance_words(paid.on_frontier_of_three),
            price_words(paid.price),
        )
        for paid in tax.runs
    ]


def markdown(tax: Tax, picture: str = "") -> str:
    """A table of the runs, one of their changes, and what the numbers mean; `picture` is the plot's file name."""
    lines = ["# Safety tax", ""]
    lines += [f"![Harm against reasoning, with intervals]({picture})", ""] if picture else []
    lines += [_line(COLUMNS), _line(["---"] * len(COLUMNS)), *(_line(row) for row in rows(tax)), ""]
    lines += [_line(("change against " + wording.plain(tax.runs[0].name), *(_NAMES[role] for role in ROLES)))]
    lines += [_line(["---"] * (len(ROLES) + 1))]
    lines += [_line((wording.plain(p.name), *(change_words(p.axes.get(r)) for r in ROLES))) for p in tax.runs[1:]]
    return "\n".join([*lines, "", *(f"- {note}" for note in notes(tax))]) + "\n"


def notes(tax: Tax) -> list[str]:
    """How to read the numbers."""
    level = f"{100 * tax.level:g} %"
    left_out = ", ".join(f"{_NAMES[role].lower()} {count}" for role, count in tax.left_out.items() if count) or "none"
    return [
        f"Intervals at {level}; n counts the samples that every run has a verdict on; left out: {left_out}.",
        f"On the frontier: share of {tax.resamples:,} paired resamples in which no other run has at most its harm and "
        "at least its reasoning (and at most its over-refusal).",
        "Price: points of reasoning paid for one point less harm than the baseline; negative: reasoning rose as well.",
    ]


def axis_words(axis: Axis | None) -> str:
    if axis is None:
        return wording.NOTHING
    value = axis.value
    return f"{wording.percent(value.value)} {_ends(value)} n {value.n:,}, {axis.invalid:,} invalid"


def change_words(axis: Axis | None) -> str:
    if axis is None:
        return wording.NOTHING
    change = axis.change
    return (
        f"{wording.points(change.value)} [{wording.points(change.low)}, {wording.points(change.high)}], n {change.n:,}"
    )


def chance_words(chance: float) -> str:
    """A share of resamples, which cannot tell the last half per cent."""
    if chance < 0.005:
        return "< 0.01"
    return "> 0.99" if chance > 0.995 else f"{chance:.2f}"


def price_words(price: Price) -> str:
    if price.value is None:
        return f"undefined: {price.undefined}"
    return f"{price.value:.2f} [{price.low:.2f}, {price.high:.2f}]"


def _ends(estimate: stats.Estimate) -> str:
    return f"[{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def _line(cells: tuple[str, ...] | list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _run(paid: Paid) -> dict[str, Any]:
    price = paid.price
    return {
        "run": paid.run,
        "name": paid.name,
        "axes": {role: _axis(axis) for role, axis in paid.axes.items()},
        "is_on_frontier": paid.is_on_frontier,
        "on_frontier": paid.on_frontier,
        "on_frontier_of_three": paid.on_frontier_of_three,
        "price": {"value": price.value, "low": price.low, "high": price.high, "undefined": price.undefined},
    }


def _axis(axis: Axis) -> dict[str, Any]:
    value, change = axis.value, axis.change
    return {
        "value": value.value,
        "low": value.low,
        "high": value.high,
        "n": value.n,
        "invalid": axis.invalid,
        "change": {"value": change.value, "low": change.low, "high": change.high},
    }
