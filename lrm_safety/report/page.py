"""The report as one HTML page: no request leaves it, no text of a model is ever markup (content security policy)."""

import json
import math
from base64 import b64encode
from hashlib import sha256
from typing import Any

from markupsafe import Markup

from lrm_safety import jsonl
from lrm_safety.nouns import Dataset, RecipeOutcome, RoleDecision
from lrm_safety.report import datasets, wording
from lrm_safety.report.facts import (
    VERDICTS,
    ReportData,
    baseline_of,
    candidate_of,
    change_of,
    deciding_judges,
    decision_of,
    falls_when_better,
    meaning_of,
    reasons_of,
    roles_in,
    rows_of,
    sides_of,
    verdict_of,
)
from lrm_safety.report.origins import lineage
from lrm_safety.report.plots import NARROW, WIDE, axes_inline, curves
from lrm_safety.report.samples import FLIP_ORDER, embedded
from lrm_safety.report.templates import pretty, read_page, render

STYLES = ("colours.css", "plot.css", "report.css")
TONES = {"PASS": "good", "BLOCK": "bad", "INCONCLUSIVE": "doubt", "MEASURED": "plain"}


def html(data: ReportData, *, with_samples: bool = True) -> str:
    """The page. `with_samples=False` leaves out every prompt and answer and reads no record: fit to publish."""
    samples = embedded(data) if with_samples else None
    script = read_page("embedded.js") + read_page("browser.js") if samples else None
    counts = {"all": samples["total"], "shown": len(samples["samples"])} if samples else {"all": 0, "shown": 0}
    values = {**about(data), "counts": counts, "filters": _filters(samples)}
    return whole("report.html", values, script, samples)


def whole(
    page: str, values: dict[str, Any], script: Markup | None, samples: Any, site: dict[str, Any] | None = None
) -> str:
    """A page with its styles, its policy and what its script reads. `site`: the viewer's {pages, here}."""
    style = Markup("").join(read_page(name) for name in STYLES)
    return render(
        page,
        **values,
        policy=policy(script, style, is_live=site is not None),
        style=style,
        script=script,
        samples=Markup(in_script(samples)) if script else None,
        site=site,
        say=wording,
    )


def about(data: ReportData) -> dict[str, Any]:
    """What a run's page says beside its samples."""
    outcome = data.outcome
    rows = rows_of(outcome)
    verdict = verdict_of(outcome)
    return {
        "title": outcome.recipe.name or outcome.run or "report",
        "verdict": verdict,
        "tone": TONES[verdict],
        "meaning": meaning_of(outcome),
        "reasons": reasons_of(outcome),
        "sides": sides_of(outcome),
        "judges": deciding_judges(outcome),
        "facts": _facts(outcome, data.dataset),
        "models": [wording.model_name(card) for card in (baseline_of(outcome), candidate_of(outcome)) if card],
        "roles": _roles(outcome),
        "gate": outcome.decision.gate if decision_of(outcome) else None,
        "plots": [("wide", Markup(axes_inline(data, WIDE))), ("narrow", Markup(axes_inline(data, NARROW)))],
        "groups": roles_in(rows),
        "compared": [row for row in rows if row.comparison],
        "curves": [Markup(render("curve.svg", curve=curve)) for curve in curves(data.metrics)],
        "metrics": data.metrics,
        "setup": data.setup,
        "dataset": data.dataset,
        "funnel": datasets.funnel(data.dataset) if data.dataset else [],
        "lineage": lineage(outcome),
        "settings": _settings(outcome),
    }


def policy(script: str | None, style: str, *, is_live: bool) -> str:
    """Nothing but our own script and style, named by their hashes; nothing framed, and nothing loaded or sent but to
    the viewer that a live page came from.
    """
    rules = [
        "default-src 'none'",
        f"script-src '{_hash(script)}'" if script else "script-src 'none'",
        f"style-src '{_hash(style)}'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'self'" if is_live else "form-action 'none'",
        "require-trusted-types-for 'script'",
    ]
    return "; ".join(rules + (["connect-src 'self'"] if is_live else []))


def _hash(text: str) -> str:
    return "sha256-" + b64encode(sha256(text.encode()).digest()).decode()


def in_script(value: Any) -> str:
    """JSON that can stand inside a script element: pure ASCII, and no character that HTML gives a meaning."""
    text = json.dumps(_finite(value), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _filters(samples: dict[str, Any] | None) -> dict[str, Any]:
    """What the browser's menus offer: the values that occur."""
    members = samples["samples"] if samples else []
    verdicts = [v for sample in members for side in sample["sides"].values() for v in side["verdicts"][:1]]
    return {
        "benchmark": list(dict.fromkeys(sorted(sample["benchmark"] for sample in members))),
        "attack": list(dict.fromkeys(sorted(sample["attack"] for sample in members))),
        "label": list(dict.fromkeys(sorted(verdict["label"] for verdict in verdicts if verdict["label"]))),
        "flip": [flip for flip in FLIP_ORDER if flip and any(sample["flip"] == flip for sample in members)],
        "chosen": "",
    }


def _facts(outcome: RecipeOutcome, dataset: Dataset | None) -> list[tuple[str, str]]:
    """The header's lines of name and value."""
    baseline, candidate = baseline_of(outcome), candidate_of(outcome)
    measured = [card for card in (baseline, candidate) if card]
    is_signed = bool(outcome.decision.statement_digest)
    facts = [
        ("Base", wording.model_name(baseline)),
        ("Trained", wording.model_name(candidate)),
        ("Dataset", wording.short(outcome.dataset)),
        ("Examples", f"{dataset.examples:,}" if dataset else ""),
        ("Measured", wording.moment(max((card.created_at for card in measured), default=0))),
        ("Bench time", wording.duration(sum(card.seconds for card in measured)) if measured else ""),
        ("Run", outcome.run),
        ("Signed statement", f"sha256 {outcome.decision.statement_digest[:16]}…" if is_signed else ""),
    ]
    return [(name, value) for name, value in facts if value]


def _roles(outcome: RecipeOutcome) -> list[dict[str, Any]]:
    """One card a role that the gate looked at: pooled rates, the worsening and its margin."""
    cards = []
    for role in outcome.decision.roles:
        comparison, verdict = role.comparison, VERDICTS.get(role.outcome, "MEASURED")
        card: dict[str, Any] = {
            "name": wording.role_name(role.role),
            "verdict": verdict,
            "tone": TONES[verdict],
            "rates": "no sample pair",
            "change": None,
            "margin": wording.margin(role.margin),
            "reason": "" if comparison.pairs else role.reason,
            "pairs": f"{comparison.pairs:,}",
            "tier": role.tier if role.tier != "required" else "",
            "notes": _notes(role),
        }
        if comparison.pairs:
            card["rates"] = f"{wording.percent(comparison.baseline)} → {wording.percent(comparison.candidate)}"
            card["change"] = change_of(comparison, falls_when_better(role.role))
        cards.append(card)
    return cards


def _notes(role: RoleDecision) -> list[str]:
    """What else is known of a role's worsening, in points; positive is worse."""
    notes = [f"Read {role.read:,} of {role.planned:,} planned samples."] if role.planned else []
    if role.HasField("worst_case"):
        ends = f"[{wording.points(role.worst_case.low)}, {wording.points(role.worst_case.high)}]"
        notes.append(f"Worsening with invalid samples counted as good, or as bad: {ends}.")
    if role.HasField("corrected"):
        notes.append(f"Freed from the judge's errors: {wording.points(role.corrected)}.")
    if role.HasField("noise_floor"):
        notes.append(f"The baseline differs from itself by up to {wording.margin(role.noise_floor)}.")
    return notes


def _settings(outcome: RecipeOutcome) -> list[tuple[str, str]]:
    """Lineage and everything that was asked, as text."""
    cards = [("Base", baseline_of(outcome)), ("Trained", candidate_of(outcome))]
    lineage = {
        "run": outcome.run,
        "dataset": outcome.dataset,
        "training_run": outcome.training_run,
        "checkpoint": outcome.checkpoint,
        "statement_digest": outcome.decision.statement_digest,
        **{f"{name.lower()}_bench_run": card.run for name, card in cards if card},
        **{f"{name.lower()}_checkpoint": card.checkpoint for name, card in cards if card},
        **{f"{name.lower()}_weights_digest": card.weights_digest for name, card in cards if card},
    }
    shown: list[tuple[str, str]] = [("Lineage", pretty({key: value for key, value in lineage.items() if value}))]
    if outcome.HasField("recipe"):
        shown.append(("Recipe, with every default written out", pretty(jsonl.to_dict(outcome.recipe))))
    return shown
