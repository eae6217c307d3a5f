"""The report as JSON: numbers and names only, never a prompt or an answer. Shares are in [0, 1], times in seconds."""

import math
from typing import Any

from lrm_safety.nouns import Cell, Comparison, Dataset, Decision, Scorecard
from lrm_safety.report.facts import (
    VERDICTS,
    Change,
    ReportData,
    Row,
    baseline_of,
    candidate_of,
    decision_of,
    reasons_of,
    rows_of,
    verdict_of,
)

SCHEMA = 1


def as_json(data: ReportData) -> dict[str, Any]:
    """The stable form for scripts. Keys are only added within one `schema`.

    - schema, run, recipe (its name), verdict (PASS | BLOCK | INCONCLUSIVE | MEASURED), reasons
    - baseline, candidate: {run, endpoint, checkpoint, weights_digest, created_at, seconds, generated_tokens} or null
    - cells: [{role, benchmark, attack, judge, metric, lower_is_better, baseline, candidate, change, comparison}]
      - baseline, candidate: {value, low, high, n, invalid, truncated, mean_tokens, invalid_reasons} or null
      - change: {value, low, high, is_worse, is_known}: candidate - baseline in the metric's direction, or null
      - comparison: {pairs, unpaired, worse, better, p_value, p_adjusted, detectable} or null
    - gate: {alpha, max_invalid, roles: [{role, outcome, margin, baseline, candidate, worsening, low, high, reason}],
      history, statement_digest} or null; worsening, low and high are positive where the candidate is worse
    - dataset: {name, digest, examples, parts: [{name, read, kept, dropped, licence}], response_tokens} or null
    - training: {run, checkpoint, examples, dropped_too_long, and of the last logged step: steps, loss, token_accuracy,
      tokens_per_s} or null
    """
    outcome = data.outcome
    return {
        "schema": SCHEMA,
        "run": outcome.run,
        "recipe": outcome.recipe.name,
        "verdict": verdict_of(outcome),
        "reasons": reasons_of(outcome),
        "baseline": _scorecard(baseline_of(outcome)),
        "candidate": _scorecard(candidate_of(outcome)),
        "cells": [_row(row) for row in rows_of(outcome)],
        "gate": _gate(decision_of(outcome)),
        "dataset": _dataset(data.dataset),
        "training": _training(data),
    }


def _scorecard(card: Scorecard | None) -> dict[str, Any] | None:
    if card is None:
        return None
    return {
        "run": card.run,
        "endpoint": card.endpoint,
        "checkpoint": card.checkpoint,
        "weights_digest": card.weights_digest,
        "created_at": _number(card.created_at),
        "seconds": _number(card.seconds),
        "generated_tokens": _number(card.generated_tokens),
    }


def _row(row: Row) -> dict[str, Any]:
    return {
        "role": row.role,
        "benchmark": row.benchmark,
        "attack": row.attack,
        "judge": row.judge,
        "metric": row.metric,
        "lower_is_better": row.lower_is_better,
        "baseline": _cell(row.baseline),
        "candidate": _cell(row.candidate),
        "change": _change(row.change),
        "comparison": _flips(row.comparison),
    }


def _cell(cell: Cell | None) -> dict[str, Any] | None:
    if cell is None:
        return None
    has_interval = cell.HasField("interval") and cell.n > 0
    return {
        "value": _number(cell.value) if cell.HasField("value") else None,
        "low": _number(cell.interval.low) if has_interval else None,
        "high": _number(cell.interval.high) if has_interval else None,
        "n": cell.n,
        "invalid": cell.invalid,
        "truncated": cell.truncated,
        "mean_tokens": _number(cell.mean_tokens),
        "invalid_reasons": dict(sorted(cell.invalid_reasons.items())),
    }


def _change(change: Change | None) -> dict[str, Any] | None:
    if change is None:
        return None
    ends = {"value": _number(change.value), "low": _number(change.low), "high": _number(change.high)}
    return {**ends, "is_worse": change.is_worse, "is_known": change.is_known}


def _flips(comparison: Comparison | None) -> dict[str, Any] | None:
    if comparison is None:
        return None
    return {
        "pairs": comparison.pairs,
        "unpaired": comparison.unpaired,
        "worse": comparison.worse,
        "better": comparison.better,
        "p_value": _number(comparison.p_value),
        "p_adjusted": _number(comparison.p_adjusted) if comparison.HasField("p_adjusted") else None,
        "detectable": _number(comparison.detectable) if comparison.HasField("detectable") else None,
    }


def _gate(decision: Decision | None) -> dict[str, Any] | None:
    if decision is None:
        return None
    roles = [
        {
            "role": role.role,
            "outcome": VERDICTS.get(role.outcome, ""),
            "margin": _number(role.margin),
            "baseline": _number(role.comparison.baseline),
            "candidate": _number(role.comparison.candidate),
            "worsening": _number(role.comparison.difference),
            "low": _number(role.comparison.interval.low),
            "high": _number(role.comparison.interval.high),
            "reason": role.reason,
        }
        for role in decision.roles
    ]
    return {
        "alpha": _number(decision.gate.alpha),
        "max_invalid": _number(decision.gate.max_invalid),
        "roles": roles,
        "history": list(decision.history),
        "statement_digest": decision.statement_digest,
    }


def _dataset(dataset: Dataset | None) -> dict[str, Any] | None:
    if dataset is None:
        return None
    parts = [
        {
            "name": part.name,
            "read": part.read,
            "kept": part.kept,
            "dropped": dict(sorted(part.dropped.items())),
            "licence": part.licence,
        }
        for part in dataset.parts
    ]
    tokens = dataset.response_tokens
    stats = {
        "mean": _number(tokens.mean),
        "p90": _number(tokens.p90),
        "max": tokens.max,
        "total": _number(tokens.total),
    }
    return {
        "name": dataset.name,
        "digest": dataset.digest,
        "examples": dataset.examples,
        "parts": parts,
        "response_tokens": stats if dataset.HasField("response_tokens") else None,
    }


def _training(data: ReportData) -> dict[str, Any] | None:
    outcome, metrics, setup = data.outcome, data.metrics, data.setup
    if not metrics and not outcome.training_run:
        return None
    last = metrics[-1] if metrics else None
    return {
        "run": outcome.training_run,
        "checkpoint": outcome.checkpoint,
        "examples": setup.examples if setup else None,
        "dropped_too_long": setup.dropped_too_long if setup else None,
        "steps": last.step if last else None,
        "loss": _number(last.loss) if last else None,
        "token_accuracy": _number(last.token_accuracy) if last else None,
        "tokens_per_s": _number(last.tokens_per_s) if last else None,
    }


def _number(value: float) -> float | None:
    """JSON has no NaN and no infinity."""
    return value if math.isfinite(value) else None
