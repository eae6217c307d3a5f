"""The report as GitHub Markdown: numbers and names only, fit for a pull request or a results folder."""

from collections.abc import Iterable, Sequence

from lrm_safety.nouns import Cell, Dataset, Decision, RecipeOutcome, TrainingMetrics
from lrm_safety.report import wording
from lrm_safety.report.facts import (
    VERDICTS,
    ReportData,
    Row,
    baseline_of,
    candidate_of,
    decision_of,
    meaning_of,
    reasons_of,
    rows_of,
    sides_of,
    verdict_of,
)

MARKS = {"PASS": "✅", "BLOCK": "⛔", "INCONCLUSIVE": "❔", "MEASURED": "📏"}
SPECIAL = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_[]|#~@"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"})


def markdown(data: ReportData, *, picture: str = "") -> str:
    """The report's numbers. `picture`: where the plot of the axes lies, relative to the text; empty = no picture."""
    outcome = data.outcome
    blocks = [
        *_header(outcome, data.dataset),
        f"![Harm, over-refusal and reasoning: base against trained]({picture})" if picture else "",
        _results(rows_of(outcome), sides_of(outcome)),
        _comparisons([row for row in rows_of(outcome) if row.comparison]),
        _gate(decision_of(outcome)),
        _training(data.metrics),
        _dataset(data.dataset),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _header(outcome: RecipeOutcome, dataset: Dataset | None) -> list[str]:
    verdict = verdict_of(outcome)
    models = [wording.model_name(card) for card in (baseline_of(outcome), candidate_of(outcome)) if card]
    facts = [f"Model: {' → '.join(f'`{_code(name)}`' for name in models)}" if models else ""]
    facts.append(f"Dataset: `{_code(wording.short(outcome.dataset))}`" if outcome.dataset else "")
    facts.append(f"{dataset.examples:,} examples" if dataset else "")
    facts.append(wording.moment((candidate_of(outcome) or outcome.baseline).created_at))
    facts.append(f"Run: `{_code(outcome.run)}`" if outcome.run else "")
    reasons = "\n".join(f"- {_text(reason)}" for reason in reasons_of(outcome))
    return [
        f"# {_text(outcome.recipe.name or outcome.run or 'Report')}",
        f"**{MARKS[verdict]} {verdict}** {meaning_of(outcome)}",
        reasons,
        " · ".join(fact for fact in facts if fact),
    ]


def _results(rows: list[Row], sides: dict[str, str]) -> str:
    if not rows:
        return "Nothing was measured."
    is_paired = len(sides) > 1
    said = [name.capitalize() for name in sides.values()] + (["Change"] if is_paired else [])
    heads = ("Role", "Benchmark", "Attack", "Judge", "Metric", *said, "Invalid", "Truncated")
    lines = [
        (
            wording.role_name(row.role),
            _text(row.benchmark),
            _text(row.attack),
            _text(row.judge),
            f"{_text(wording.metric_name(row.metric))} {'↓' if row.lower_is_better else '↑'}",
            *(_measured(getattr(row, side)) for side in sides),
            *([_change(row)] if is_paired else []),
            _counts(row, "invalid"),
            _counts(row, "truncated"),
        )
        for row in rows
    ]
    return f"## Results\n\n{_table(heads, lines)}\n\n{_footnote(rows)}"


def _footnote(rows: list[Row]) -> str:
    cells = [cell for row in rows for cell in (row.baseline, row.candidate) if cell and cell.HasField("interval")]
    levels = sorted({f"{100 * cell.interval.level:g} %" for cell in cells if cell.interval.level})
    return (
        "↓ lower is better, ↑ higher is better. Change: trained − base on the same samples, in percentage points. "
        f"Brackets: {' and '.join(levels) or '95 %'} intervals. "
        "Invalid samples (no completion or no verdict) are in no rate."
    )


def _comparisons(rows: list[Row]) -> str:
    heads = ("Benchmark", "Attack", "Judge", "Pairs", "Unpaired", "Got worse", "Got better", "p", "Holm", "Detectable")
    lines = [
        (
            _text(row.benchmark),
            _text(row.attack),
            _text(row.judge),
            f"{c.pairs:,}",
            f"{c.unpaired:,}",
            f"{c.worse:,}",
            f"{c.better:,}",
            wording.p_value(c.p_value) if c.pairs else wording.NOTHING,
            wording.adjusted(c),
            wording.detectable(c),
        )
        for row in rows
        if (c := row.comparison)
    ]
    return f"## Same samples, both models\n\n{_table(heads, lines)}\n\n{wording.TESTS}" if lines else ""


def _gate(decision: Decision | None) -> str:
    if decision is None or not decision.roles:
        return ""
    heads = ("Role", "Outcome", "Worsening", "Margin")
    lines = [
        (
            wording.role_name(role.role),
            VERDICTS.get(role.outcome, wording.NOTHING),
            f"{wording.points(role.comparison.difference)} "
            f"[{wording.points(role.comparison.interval.low)}, {wording.points(role.comparison.interval.high)}]"
            if role.comparison.pairs
            else wording.NOTHING,
            wording.margin(role.margin),
        )
        for role in decision.roles
    ]
    rule = f"One-sided error rate α = {decision.gate.alpha:g}; invalid share allowed {decision.gate.max_invalid:.1%}."
    signed = f" Signed statement: sha256 `{_code(decision.statement_digest)}`." if decision.statement_digest else ""
    says = f"{rule} Worsening is positive where the trained model is worse.{signed}"
    return f"## Gate\n\n{_table(heads, lines)}\n\n{says}"


def _training(metrics: list[TrainingMetrics]) -> str:
    if not metrics:
        return ""
    first, last = metrics[0], metrics[-1]
    return (
        f"## Training\n\n{last.step:,} steps; loss {first.loss:.3f} → {last.loss:.3f}; "
        f"token accuracy {wording.percent(first.token_accuracy)} → {wording.percent(last.token_accuracy)}."
    )


def _dataset(dataset: Dataset | None) -> str:
    if dataset is None:
        return ""
    heads = ("Part", "Read", "Kept", "Dropped", "Licence")
    lines = [
        (
            _text(part.name),
            f"{part.read:,}",
            f"{part.kept:,}",
            ", ".join(f"{rows:,} {_text(reason)}" for reason, rows in sorted(part.dropped.items())) or wording.NOTHING,
            _text(part.licence) or wording.NOTHING,
        )
        for part in dataset.parts
    ]
    tokens = dataset.response_tokens
    said = (
        f"Response tokens: mean {tokens.mean:.0f}, p90 {tokens.p90:.0f}, max {tokens.max:,}, total {tokens.total:,.0f}."
    )
    return f"## Dataset\n\n{_table(heads, lines)}" + (f"\n\n{said}" if dataset.HasField("response_tokens") else "")


def _measured(cell: Cell | None) -> str:
    if cell is None:
        return wording.NOTHING
    return " ".join(
        word for word in (wording.value(cell), wording.interval(cell), f"n {wording.count(cell, 'n')}") if word
    )


def _change(row: Row) -> str:
    change = row.change
    return (
        f"{wording.points(change.value)} {wording.change_interval(change)} {change.word}" if change else wording.NOTHING
    )


def _counts(row: Row, field: str) -> str:
    is_paired = row.baseline is not None and row.candidate is not None
    return wording.both(wording.count(row.baseline, field), wording.count(row.candidate, field), is_paired)


def _table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *lines))


def _text(text: str) -> str:
    """Text that Markdown shows as it is."""
    return wording.plain(text).translate(SPECIAL)


def _code(text: str) -> str:
    return wording.plain(text).replace("`", "'").replace("|", "/")
