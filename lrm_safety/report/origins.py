"""Where a verdict comes from: a dataset's funnel, and the chain from dataset to verdict."""

from dataclasses import dataclass

from lrm_safety.nouns import Dataset, PartCounts, RecipeOutcome, Scorecard
from lrm_safety.report import wording
from lrm_safety.report.facts import NO_GATE, baseline_of, candidate_of, verdict_of


@dataclass(frozen=True)
class Step:
    """What one step of a part took `out`, and how many rows are `left` after it."""

    name: str
    out: int
    left: int


@dataclass(frozen=True)
class Part:
    name: str
    licence: str
    steps: list[Step]
    share: float  # of the dataset

    @property
    def most(self) -> int:
        return max((step.left for step in self.steps), default=0)


@dataclass(frozen=True)
class Link:
    """One station; `path` leads to its page in the viewer, where it has one."""

    kind: str
    name: str
    about: str = ""
    path: str = ""


def funnel(dataset: Dataset) -> list[Part]:
    """What the manifest knows of each part: rows read, dropped for each reason, not drawn into the mix, kept."""
    whole = sum(part.kept for part in dataset.parts) or 1
    return [Part(part.name, part.licence, _steps(part), part.kept / whole) for part in dataset.parts]


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


def _steps(part: PartCounts) -> list[Step]:
    steps, left = [Step("read", 0, part.read)], part.read
    for reason, rows in sorted(part.dropped.items()):
        left -= rows
        steps.append(Step(reason, rows, left))
    if left > part.kept:
        steps.append(Step("not drawn", left - part.kept, part.kept))
    return steps


def _measured(kind: str, card: Scorecard | None) -> Link:
    if card is None:
        return Link(kind, "")
    return Link(kind, card.run, wording.model_name(card), f"/runs/{card.run}")
