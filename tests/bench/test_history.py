"""What earlier checkpoints answered makes a gate's order cleverer: fewer samples, the same verdicts, chosen once."""

import time
from collections.abc import Callable

import numpy as np
import pytest

from lrm_safety.clients import rpc
from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import CheckGateRequest, Gate, Outcome, RecipeOutcome
from lrm_safety.stats import Shown
from services.bench import history
from services.bench.calibrated import PERFECT
from services.bench.compare import Side
from services.bench.plan import check
from services.bench.reading import Answer, open_reading
from services.bench.terms import terms_of
from tests.bench.conftest import harm_spec
from tests.bench.gated import gate_policy, named
from tests.bench.test_gate import side
from tests.bench.test_trigger import Floor, floor  # noqa: F401  (a fixture)

ITEMS, RUNS, ALPHA = 200, 30, 0.05
GATE = Gate(margins={"harm": 0.1}, alpha=ALPHA, method="sequential", claim="items")


def measured(run: str, values: np.ndarray, **spec: object) -> Side:
    return side(run, {"harm": values.astype(float).tolist()}, **spec)


def read(baseline: Side, values: np.ndarray, earlier: list[Side]) -> tuple[Shown | None, int]:
    reading = open_reading(terms_of(GATE, {"harm_set": "harm"}, time.time()), "harm", baseline, PERFECT, earlier)
    for index, value in enumerate(values.tolist()):
        reading.tell(f"harm_set/none/{index}/0", Answer(float(value)))
    return reading.shown, reading.position


def flipped(rng: np.random.Generator, before: np.ndarray, restless: np.ndarray) -> np.ndarray:
    """As many items get worse as get better; which ones is drawn among the restless."""
    after = before.copy()
    for value in (False, True):
        after[rng.choice(np.flatnonzero((before == value) & restless), ITEMS // 10, replace=False)] = not value
    return after


def test_it_saves_samples_and_is_wrong_no_more_often() -> None:
    """No candidate is worse; where earlier ones flipped on just the other items it costs samples, and errs no more."""
    rng, found = np.random.default_rng(8), {"none": [], "true": [], "misleading": []}
    for seed in range(RUNS):
        before, restless = rng.random(ITEMS) < 0.4, rng.random(ITEMS) < 0.4
        baseline, candidate = measured("base", before, seed=seed), flipped(rng, before, restless)
        for name, where in (("true", restless), ("misleading", ~restless)):
            earlier = [measured(f"e{n}", flipped(rng, before, where)) for n in range(history.MOST)]
            found[name].append(read(baseline, candidate, earlier))
        found["none"].append(read(baseline, candidate, []))
    mean = {name: np.mean([position for _, position in runs]) for name, runs in found.items()}
    assert mean["true"] < 0.8 * mean["none"], mean
    for name, runs in found.items():
        assert sum(shown is Shown.WORSE for shown, _ in runs) <= ALPHA * RUNS, name


def test_only_the_same_question_read_by_the_same_judge_is_known() -> None:
    before, after = np.zeros(20), np.ones(20)
    baseline = measured("base", before)
    assert history.answers(measured("a", after), baseline, "harm") == {f"harm_set/none/{n}/0": 1.0 for n in range(20)}
    assert not history.answers(measured("a", after, judge_digest="another"), baseline, "harm")
    assert not history.answers(measured("a", after, text="something else"), baseline, "harm")
    holed = side("a", {"harm": [None, *after[1:].tolist()]})
    assert len(history.answers(holed, baseline, "harm")) == 19


def test_a_line_remembers_and_a_run_keeps_what_it_was_asked_with(
    floor: Floor,  # noqa: F811
    harm_file: Callable[[int], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(history, "MOST", 2)
    policy = gate_policy(harm_file(200), gate=GATE)
    base = floor.publish("base", "5: base")

    def gated(weights: str) -> RecipeOutcome:
        return floor.outcome(floor.ask(policy, floor.publish("tuned", weights, named(base))).id)

    first, second, third = (gated(weights) for weights in ("7: first", "5: second", "7: third"))
    assert [each.decision.outcome for each in (first, second, third)] == [Outcome.OUTCOME_PASS] * 3
    assert [list(each.decision.history) for each in (first, second)] == [[], []]  # the only one is the baseline
    assert list(third.decision.history) == [first.candidate.run] == list(third.candidate.spec.history)
    assert third.decision.roles[0].read < first.decision.roles[0].read
    assert f"knowing what earlier checkpoints answered: {first.candidate.run}" in " ".join(third.decision.reasons)
    for number in range(2):
        outcome = gated(f"7: later {number}")
    assert len(outcome.decision.history) == 2
    assert first.candidate.run not in outcome.decision.history
    runs = {"baseline_run": third.baseline.run, "candidate_run": third.candidate.run}
    again = rpc(floor.clients.bench.CheckGate, CheckGateRequest(gate=policy.gate, **runs))
    assert again.roles == third.decision.roles  # whatever was measured since


def test_history_is_for_claims_about_items() -> None:
    spec = harm_spec("x.csv")
    spec.history.append("bench-1")
    with pytest.raises(InvalidInput, match="`history` is there without a gate whose claim is items"):
        check(spec)
