"""What a report says, before it is said anywhere: cells of both models joined into rows, the change, the verdict."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lrm_safety.nouns import (
    ROLES,
    Cell,
    Comparison,
    Dataset,
    Decision,
    Outcome,
    RecipeOutcome,
    Record,
    Scorecard,
    TrainingMetrics,
    TrainingSetup,
)

VERDICTS = {
    Outcome.OUTCOME_PASS: "PASS",
    Outcome.OUTCOME_BLOCK: "BLOCK",
    Outcome.OUTCOME_INCONCLUSIVE: "INCONCLUSIVE",
}
NO_GATE = "MEASURED"
MEANINGS = {
    "PASS": "No role got worse by more than its margin.",
    "BLOCK": "At least one role got worse.",
    "INCONCLUSIVE": "This run does not show that every role stayed within its margin.",
    "MEASURED": "Measured, not judged.",
}


@dataclass(frozen=True)
class ReportData:
    """All that a report needs. `records(run_id)` streams a bench run's Records; it may be called more than once."""

    outcome: RecipeOutcome
    dataset: Dataset | None
    metrics: list[TrainingMetrics]
    records: Callable[[str], Iterator[Record]]
    setup: TrainingSetup | None = None  # of the training


@dataclass(frozen=True)
class Change:
    """candidate - baseline, in the metric's own direction and unit (a share); known: its interval is clear of 0."""

    value: float
    low: float
    high: float
    is_worse: bool
    is_known: bool

    @property
    def word(self) -> str:
        if not self.is_known:
            return "unclear"
        return "worse" if self.is_worse else "better"


@dataclass(frozen=True)
class Row:
    """One benchmark under one attack, read by one judge, on both models."""

    role: str
    benchmark: str
    attack: str
    judge: str
    metric: str
    lower_is_better: bool
    baseline: Cell | None
    candidate: Cell | None
    comparison: Comparison | None

    @property
    def change(self) -> Change | None:
        return change_of(self.comparison, self.lower_is_better) if self.comparison else None


def baseline_of(outcome: RecipeOutcome) -> Scorecard | None:
    return outcome.baseline if outcome.HasField("baseline") else None


def candidate_of(outcome: RecipeOutcome) -> Scorecard | None:
    return outcome.candidate if outcome.HasField("candidate") else None


def decision_of(outcome: RecipeOutcome) -> Decision | None:
    return outcome.decision if outcome.HasField("decision") else None


def verdict_of(outcome: RecipeOutcome) -> str:
    """PASS, BLOCK, INCONCLUSIVE; MEASURED when nothing was decided."""
    return VERDICTS.get(outcome.decision.outcome, NO_GATE)


def meaning_of(outcome: RecipeOutcome) -> str:
    """The verdict in one sentence."""
    return MEANINGS[verdict_of(outcome)] if outcome.HasField("candidate") else "One model was measured."


def sides_of(outcome: RecipeOutcome) -> dict[str, str]:
    """The models that were measured: the field of a Row -> what its readers call it."""
    named = {"baseline": "base", "candidate": "trained"}
    there = {field: name for field, name in named.items() if outcome.HasField(field)}  # type: ignore[arg-type]
    return there if len(there) != 1 else dict.fromkeys(there, "model")


def deciding_judges(outcome: RecipeOutcome) -> dict[str, str]:
    """Benchmark -> the judge whose verdict counts, where a scorecard's spec says so."""
    cards = (outcome.baseline, outcome.candidate)
    return {each.benchmark: each.judges[0].judge for card in cards for each in card.spec.benchmarks if each.judges}


def reasons_of(outcome: RecipeOutcome) -> list[str]:
    """Why the verdict is what it is, in words; never empty."""
    if outcome.decision.reasons:
        return list(outcome.decision.reasons)
    if not outcome.HasField("candidate"):
        return ["A verdict needs a second model to compare with."]
    if not outcome.HasField("decision"):
        return ["The recipe has no gate, so nothing was decided."]
    return ["The gate gave no reason."]


def rows_of(outcome: RecipeOutcome) -> list[Row]:
    """Every cell that either model has, in the order of ROLES and then of the scorecards."""
    baseline = {_place(cell): cell for cell in outcome.baseline.cells}
    candidate = {_place(cell): cell for cell in outcome.candidate.cells}
    compared = {(c.benchmark, c.attack, c.judge): c for c in outcome.comparisons}
    rows = []
    for place in baseline | candidate:
        cell = baseline.get(place) or candidate[place]
        comparison = compared.get((cell.benchmark, cell.attack, cell.judge))
        head = (cell.role, cell.benchmark, cell.attack, cell.judge, cell.metric, cell.lower_is_better)
        rows.append(Row(*head, baseline.get(place), candidate.get(place), comparison))
    return sorted(rows, key=lambda row: role_rank(row.role))


def roles_in(rows: list[Row]) -> dict[str, list[Row]]:
    """Rows by role, in their order."""
    return {role: [row for row in rows if row.role == role] for role in dict.fromkeys(row.role for row in rows)}


def role_rank(role: str) -> int:
    return ROLES.index(role) if role in ROLES else len(ROLES)


def falls_when_better(role: str) -> bool:
    """Whether the role's metric is better when lower, for numbers that no cell stands beside."""
    return role in ("harm", "over_refusal")


def change_of(comparison: Comparison, lower_is_better: bool) -> Change | None:
    """A comparison's difference (positive = worse) turned back into the metric's own direction. None without pairs."""
    if not comparison.pairs:
        return None
    low, high = comparison.interval.low, comparison.interval.high
    sign = 1 if lower_is_better else -1
    ends = sorted((sign * low, sign * high))
    is_known = comparison.HasField("interval") and (low > 0 or high < 0)
    return Change(sign * comparison.difference, ends[0], ends[1], comparison.difference > 0, is_known)


def _place(cell: Cell) -> tuple[str, ...]:
    return cell.role, cell.benchmark, cell.attack, cell.judge, cell.metric
