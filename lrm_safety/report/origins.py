"""Where a verdict comes from: the chain from dataset to verdict."""

from dataclasses import dataclass

from lrm_safety.nouns import RecipeOutcome, Scorecard
from lrm_safety.report import wording
from lrm_safety.report.facts import NO_GATE, baseline_of, candidate_of, verdict_of


@dataclass(frozen=True)
class Link:
    """One station; `path` leads to its page in the viewer, where it has one."""

    kind: str
    name: str
    about: str = ""
    path: str = ""


def lineage(outcome: RecipeOutcome) -> list[Link]:
    """From dataset to verdict; stations that a run did not have are left out."""
    training = outcome.recipe.training
    base = wording.short(training.base or outcome.recipe.model)
    how = f"{training.method} on {base}" if training.method and base else training.method
    baseline, candidate = baseline_of(outcome), candidate_of(outcome)
    links = [
        Link("dataset", wording.short(outcome.dataset), path="#dataset"),
        Link("training", outcome.training_run, how, "#training"),
        Link("checkpoint", wording.short(outcome.checkpoint)),
        _measured("measured, base" if candidate else "measured", baseline),
        _measured("measured, trained", candidate),
    ]
    verdict = verdict_of(outcome)
    if verdict != NO_GATE:
        links.append(Link("verdict", verdict, wording.moment(outcome.decision.created_at)))
    return [link for link in links if link.name]


def _measured(kind: str, card: Scorecard | None) -> Link:
    if card is None:
        return Link(kind, "")
    return Link(kind, card.run, wording.model_name(card), f"/runs/{card.run}")
