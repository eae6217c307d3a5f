"""The pages of `lrm view`: the report's own renderer over the store, and what only many runs together show."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import Cost, Dataset, RecipeOutcome, reference
from lrm_safety.report import datasets, wording
from lrm_safety.report.facts import baseline_of, candidate_of, sides_of, verdict_of
from lrm_safety.report.finding import SIDES, Wanted
from lrm_safety.report.library import Library
from lrm_safety.report.page import about, in_script, whole
from lrm_safety.report.shelf import Shelf, moment_of
from lrm_safety.report.templates import read_page, render
from lrm_safety.report.tradeoff import AXES, TONES, history, models_of, pareto, rate_of
from lrm_safety.settings import Settings
from lrm_safety.store import ObjectStore, open_store

PAGES = [
    ("/", "Checkpoints"),
    ("/pareto", "Safety against reasoning"),
    ("/datasets", "Datasets"),
    ("/cost", "Cost"),
]
FLIPS = ["worse", "better", "unpaired", "same"]
MOST_LINES = 200  # of the overview
MOST_WORKS = 100  # of the cost page


@dataclass
class Spent:
    """One sum of the cost page."""

    team: str
    kind: str
    pieces: int = 0
    gpu_seconds: float = 0.0
    tokens: float = 0.0
    money: float = 0.0
    verdicts: float = 0.0


def open_viewer(settings: Settings) -> "Viewer":
    """Over this machine's store, with indexes among its scratch files."""
    of_store = hashlib.sha256(settings.store.encode()).hexdigest()[:12]
    return Viewer(open_store(settings), settings.state_dir / "view" / of_store)


class Viewer:
    """One page a method, each as text of HTML. Raises NotFound for runs that are not there."""

    def __init__(self, store: ObjectStore, folder: Path) -> None:
        """`folder` keeps the indexes of samples; nothing else is written."""
        self.shelf = Shelf(store)
        self.library = Library(self.shelf, folder)

    def overview(self) -> str:
        outcomes = self.shelf.outcomes()
        by_time = sorted(outcomes, key=lambda outcome: -moment_of(outcome))
        plots = [_svg("history.svg", history(by_time, role)) for role in AXES]
        return _page("overview.html", "/", {"lines": [_line(each) for each in outcomes[:MOST_LINES]], "plots": plots})

    def run(self, run: str) -> str:
        """A recipe, a decision or a bench run: the report's page, its samples read as they are asked for."""
        outcome = self.shelf.outcome(run)
        runs = _bench_runs(outcome)
        finder = self.library.finder(runs)
        self.library.unread(finder)
        values = {**about(self.shelf.data(outcome)), **self._browser(outcome, "")}
        return _page("report.html", "", values, runs)

    def flips(self, baseline_run: str, candidate_run: str) -> str:
        """What changed between any two bench runs, sample by sample."""
        outcome = self.shelf.pair(baseline_run, candidate_run)
        return self._samples(outcome, "What changed between two checkpoints", "changed")

    def samples(self, run: str) -> str:
        """Every sample of one bench run."""
        return self._samples(RecipeOutcome(baseline=self.shelf.scorecard(run)), "Samples of a run", "")

    def find(self, asked: dict[str, Any]) -> str:
        """JSON for the page's script: {samples, total, every, note, labels, unread}. Raises InvalidInput."""
        names = ("benchmark", "attack", "label", "flip", "model", "text")
        runs, start = asked.get("runs", []), asked.get("start", 0)
        fields = {name: asked.get(name, "") for name in names}
        is_good = isinstance(runs, list) and 1 <= len(runs) <= len(SIDES) and isinstance(start, int) and start >= 0
        if not is_good or not all(isinstance(value, str) for value in [*fields.values(), *runs]):
            raise InvalidInput(f"expected runs, start and texts named {', '.join(names)}")
        finder = self.library.finder(runs)
        unread = self.library.unread(finder)
        found = finder.find(Wanted(**fields), start)
        note = f"still reading, {unread:,} parts to go" if unread else found.note
        shown = {"samples": found.samples, "total": found.total, "every": found.every}
        return in_script({**shown, "note": note, "labels": finder.labels(), "unread": unread})

    def pareto(self) -> str:
        models = models_of(self.shelf.outcomes())
        plots = [plot for plot in (pareto(models, "reasoning"), pareto(models, "over_refusal")) if plot]
        return _page("pareto.html", "/pareto", {"points": models, "plots": [_svg("pareto.svg", p) for p in plots]})

    def datasets(self) -> str:
        lines = [_dataset_line(each) for each in self.shelf.datasets()[:MOST_LINES]]
        return _page("datasets.html", "/datasets", {"lines": lines})

    def dataset(self, dataset: str) -> str:
        """What a dataset is made of, in numbers and names: none of its texts."""
        return _page("dataset.html", "/datasets", datasets.about(self.shelf.dataset(dataset)))

    def cost(self) -> str:
        works = self.shelf.costs()
        return _page("cost.html", "/cost", {"sums": _sums(works), "works": works[:MOST_WORKS]})

    def _samples(self, outcome: RecipeOutcome, title: str, flip: str) -> str:
        runs = _bench_runs(outcome)
        finder = self.library.finder(runs)
        unread = self.library.unread(finder)
        cards = [card for card in (baseline_of(outcome), candidate_of(outcome)) if card]
        counts: dict[tuple[str, str], dict[str, int]] = {}
        for benchmark, attack, change, number in finder.flips() if len(runs) > 1 else []:
            counts.setdefault((benchmark, attack), dict.fromkeys(FLIPS, 0))[change] = number
        values = {
            "title": title,
            "runs": [(card.run, wording.model_name(card)) for card in cards],
            "unread": unread,
            "flips": [{"benchmark": b, "attack": a, "counts": each} for (b, a), each in counts.items()],
            "sides": sides_of(outcome),
        }
        return _page("samples.html", "", {**values, **self._browser(outcome, flip)}, runs)

    def _browser(self, outcome: RecipeOutcome, flip: str) -> dict[str, Any]:
        """The menus that are known before a row is read; the script adds labels as it meets them."""
        specs = [card.spec for card in (baseline_of(outcome), candidate_of(outcome)) if card]
        cells = [cell for card in (outcome.baseline, outcome.candidate) for cell in card.cells]
        benchmarks = {each.benchmark for spec in specs for each in spec.benchmarks} | {c.benchmark for c in cells}
        attacks = {name for spec in specs for each in spec.benchmarks for name in each.attacks or ["none"]}
        filters: dict[str, Any] = {
            "benchmark": sorted(benchmarks),
            "attack": sorted(attacks | {cell.attack for cell in cells}),
            "label": [],
            "flip": FLIPS if candidate_of(outcome) else [],
            "chosen": flip,
        }
        return {"filters": filters, "counts": {"all": 0, "shown": 0}}


def problem(title: str, message: str) -> str:
    """The page for what went wrong."""
    return _page("problem.html", "", {"title": title, "message": message})


def _page(template: str, here: str, values: dict[str, Any], runs: list[str] | None = None) -> str:
    script = read_page("remote.js") + read_page("browser.js") if runs else None
    samples = {"sides": SIDES[: len(runs)], "runs": runs} if runs else None
    return whole(template, values, script, samples, {"pages": PAGES, "here": here})


def _bench_runs(outcome: RecipeOutcome) -> list[str]:
    return [card.run for card in (baseline_of(outcome), candidate_of(outcome)) if card]


def _svg(template: str, plot: object) -> Markup:
    return Markup(render(template, plot=plot))


def _line(outcome: RecipeOutcome) -> dict[str, Any]:
    """One row of the overview."""
    baseline, candidate = baseline_of(outcome), candidate_of(outcome)
    card = candidate or outcome.baseline
    verdict = verdict_of(outcome)
    return {
        "run": outcome.run or card.run,
        "when": wording.moment(moment_of(outcome)),
        "verdict": verdict,
        "tone": TONES[verdict],
        "name": outcome.recipe.name,
        "checkpoint": wording.model_name(card),
        "bench": card.run,
        "baseline": wording.model_name(baseline) if candidate else "",
        "baseline_bench": baseline.run if baseline and candidate else "",
        "rates": {role: rate_of(card, role) for role in AXES},
    }


def _dataset_line(dataset: Dataset) -> dict[str, Any]:
    """One row of the list of datasets."""
    compared = [each for each in dataset.overlaps if not each.unchecked]
    shared = ", ".join(f"{each.shared:,} {each.benchmark}" for each in compared if each.shared)
    return {
        "when": wording.moment(dataset.created_at),
        "name": wording.short(reference(dataset.name, dataset.digest)),
        "path": f"/datasets/{reference(dataset.name, dataset.digest)}",
        "examples": dataset.examples,
        "tokens": dataset.response_tokens.mean,
        "licence": "; ".join(datasets.licences(dataset)),
        "shared": shared or (f"nothing, of {len(compared)}" if compared else "not compared"),
    }


def _sums(works: list[Cost]) -> list[Spent]:
    sums: dict[tuple[str, str], Spent] = {}
    for work in works:
        by = (work.tenant.team or "(no team)", work.kind)
        each = sums.setdefault(by, Spent(*by))
        each.pieces += 1
        each.gpu_seconds += work.gpu_seconds
        each.tokens += work.tokens
        each.money += work.money
        each.verdicts += work.verdicts
    return [sums[key] for key in sorted(sums)]
