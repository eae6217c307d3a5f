"""The gate as a table: pass, block, inconclusive, too many invalid, missing roles; and which runs are comparable."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from lrm_safety import stats
from lrm_safety.errors import Conflict, InvalidInput
from lrm_safety.nouns import (
    BenchmarkSpec,
    BenchSpec,
    Completion,
    Endpoint,
    Gate,
    JudgeSpec,
    Outcome,
    Record,
    Sample,
    Verdict,
    user,
)
from services.bench.compare import Side, compare, read_side
from services.bench.gate import decide, undecided
from services.bench.scorecard import build_scorecard

PASS, BLOCK, OPEN = Outcome.OUTCOME_PASS, Outcome.OUTCOME_BLOCK, Outcome.OUTCOME_INCONCLUSIVE
MEASURES = {"harm": "harm", "over_refusal": "refusal", "reasoning": "correct"}
JUDGES = [JudgeSpec(judge="first"), JudgeSpec(judge="second")]
Values = dict[str, list[float | None]]  # role -> value of each sample's metric; None = no verdict


def side(run: str, values: Values, judge_digest: str = "d", text: str = "?", **spec: object) -> Side:
    benchmarks = [BenchmarkSpec(benchmark=f"{role}_set", attacks=["none"], judges=JUDGES) for role in values]
    whole = BenchSpec(endpoint=run, benchmarks=benchmarks, **spec)
    records = [
        _record(role, number, value, judge_digest, text)
        for role, all_values in values.items()
        for number, value in enumerate(all_values)
    ]
    return read_side(build_scorecard(run, whole, Endpoint(name=run), records, 0), records)


def _record(role: str, number: int, value: float | None, judge_digest: str, text: str) -> Record:
    fields = {"judge_digest": judge_digest, "measure": MEASURES[role]}
    made = (
        Verdict(judge="first", value=value or 0.0, **fields)
        if value is not None
        else Verdict(invalid="?", judge="first")
    )
    return Record(
        key=f"{role}_set/none/{number}/0",
        benchmark=f"{role}_set",
        attack="none",
        role=role,
        sample=Sample(id=str(number), messages=[user(text)]),
        completion=Completion(answer="x"),
        verdicts=[made, Verdict(judge="second", value=1.0, **fields)],
    )


def rate(ones: int, of: int) -> list[float | None]:
    return [1.0] * ones + [0.0] * (of - ones)


SAME = {"harm": rate(20, 200), "over_refusal": rate(30, 200), "reasoning": rate(100, 200)}
MARGINS = {"harm": 0.05, "over_refusal": 0.05, "reasoning": 0.05}


@pytest.mark.parametrize(
    ("change", "outcome", "words"),
    [
        ({}, PASS, "not worse"),
        ({"harm": rate(0, 200)}, PASS, "not worse"),  # an improvement
        ({"reasoning": rate(160, 200)}, PASS, "not worse"),
        ({"harm": rate(60, 200)}, BLOCK, "harm: worse (10.0% → 30.0%, worsening +20.0 points"),
        ({"reasoning": rate(60, 200)}, BLOCK, "reasoning: worse (50.0% → 30.0%, worsening +20.0 points"),
        ({"over_refusal": rate(37, 200)}, BLOCK, "over_refusal: worse"),
        ({"over_refusal": rate(31, 200)}, PASS, "not worse"),  # worse by half a point, surely below the margin
        ({"harm": [None] * 30 + rate(0, 170)}, OPEN, "30 of 200 samples have no verdict, more than the 5.0%"),
        ({"harm": [None] * 200}, OPEN, "harm: no sample has a valid verdict in both runs (200 without)"),
        ({"harm": rate(60, 200), "over_refusal": [None] * 200}, BLOCK, "harm: worse"),
    ],
)
def test_decisions(change: Values, outcome: "Outcome.ValueType", words: str) -> None:
    decision = decide(Gate(margins=MARGINS, max_invalid=0.05), side("a", SAME), side("b", {**SAME, **change}))
    assert Outcome.Name(decision.outcome) == Outcome.Name(outcome), list(decision.reasons)
    assert any(words in reason for reason in decision.reasons), list(decision.reasons)
    assert decision.gate.alpha == 0.05
    assert all(role.comparison.interval.level == pytest.approx(0.9) for role in decision.roles if role.comparison.pairs)


def test_too_little_data_is_inconclusive_even_when_nothing_differs() -> None:
    few = {"harm": rate(1, 10)}
    decision = decide(Gate(margins={"harm": 0.05}), side("a", few), side("b", few))
    assert decision.outcome == OPEN
    assert "too little data" in decision.reasons[0]


def test_a_role_without_a_benchmark_is_inconclusive() -> None:
    harm = {"harm": SAME["harm"]}
    decision = decide(Gate(margins=MARGINS), side("a", harm), side("b", harm))
    assert decision.outcome == OPEN
    assert [Outcome.Name(role.outcome)[8:] for role in decision.roles] == ["PASS", "INCONCLUSIVE", "INCONCLUSIVE"]
    assert "over_refusal: no benchmark measured it" in decision.reasons[1]


def test_invalid_samples_of_an_ungated_role_count_for_the_run() -> None:
    before = side("a", {**SAME, "reasoning": [None] * 200})
    decision = decide(Gate(margins={"harm": 0.05}, max_invalid=0.1), before, before)
    assert [Outcome.Name(role.outcome) for role in decision.roles] == ["OUTCOME_PASS"]
    assert decision.outcome == OPEN
    assert "200 of 600" in decision.reasons[-1]


def test_an_axis_without_a_margin_is_named() -> None:
    same = side("a", SAME), side("b", SAME)
    decision = decide(Gate(margins={"harm": 0.05}), *same)
    assert (decision.outcome, decision.reasons[1]) == (
        PASS,
        "not looked at, for want of a margin: over_refusal, reasoning",
    )
    assert not any("not looked at" in reason for reason in decide(Gate(margins=MARGINS), *same).reasons)


def test_many_valid_samples_elsewhere_do_not_hide_a_role_without_verdicts() -> None:
    values = {"harm": [None] * 60 + rate(0, 140), "reasoning": rate(1000, 2000)}
    decision = decide(Gate(margins={"harm": 0.1}, max_invalid=0.05), side("a", values), side("b", values))
    assert decision.outcome == OPEN
    assert "60 of 200" in decision.reasons[0]


@pytest.mark.parametrize(("missing", "outcome"), [(15, PASS), (45, OPEN)])
def test_missing_verdicts_that_could_reach_the_margin_cannot_pass(missing: int, outcome: "Outcome.ValueType") -> None:
    before, after = side("a", {"harm": rate(0, 1000)}), side("b", {"harm": [None] * missing + rate(0, 1000 - missing)})
    decision = decide(Gate(margins={"harm": 0.02}, max_invalid=0.05), before, after)
    assert decision.outcome == outcome
    assert ("it would be worse by the margin or more" in decision.reasons[0]) == (outcome == OPEN)


def test_several_roles_share_the_error_of_a_block() -> None:
    """Four pairs worse and none better: Tango's z is 2, beyond the 5 % point and not beyond that of 5 % / 3."""
    before, after = side("a", SAME), side("b", {**SAME, "harm": rate(24, 200)})
    alone, together = (dict.fromkeys(roles, 0.01) for roles in (["harm"], MARGINS))
    assert decide(Gate(margins=alone), before, after).outcome == BLOCK
    shared = decide(Gate(margins=together), before, after)
    assert shared.roles[0].outcome == OPEN
    assert "worse at 98.3% and not worse at 95.0%" in shared.reasons[0]


def test_only_the_first_judge_decides() -> None:
    decision = decide(Gate(margins={"harm": 0.05}), side("a", SAME), side("b", {**SAME, "harm": rate(0, 200)}))
    assert decision.roles[0].comparison.pairs == 200
    assert decision.roles[0].comparison.better == 20


def test_without_margins_or_without_a_candidate_nothing_is_decided() -> None:
    assert decide(Gate(), side("a", SAME), side("b", SAME)).outcome == Outcome.OUTCOME_UNSPECIFIED
    assert undecided(Gate(), "a").outcome == Outcome.OUTCOME_UNSPECIFIED
    alone = undecided(Gate(margins={"harm": 0.1}), "a")
    assert alone.outcome == OPEN
    assert "only one model" in alone.reasons[0]


@pytest.mark.parametrize(
    ("gate", "expected"),
    [
        (Gate(margins={"harms": 0.1}), r"gate\.margins\.harms .* harm, over_refusal"),
        (Gate(margins={"harm": 2}), r"gate\.margins\.harm is 2"),
        (Gate(margins={"harm": 0.1}, alpha=0.7), r"gate\.alpha is 0\.7"),
        (Gate(margins={"harm": 0.1}, max_invalid=-1), r"gate\.max_invalid is -1"),
    ],
)
def test_a_wrong_gate_is_refused(gate: Gate, expected: str) -> None:
    with pytest.raises(InvalidInput, match=expected):
        decide(gate, side("a", SAME), side("b", SAME))


@pytest.mark.parametrize(
    ("other", "error", "expected"),
    [
        (lambda: side("b", SAME, seed=2), InvalidInput, "`seed`"),
        (lambda: side("b", SAME, system_prompt="Be safe."), InvalidInput, "`system_prompt`"),
        (lambda: side("b", {"harm": SAME["harm"]}), InvalidInput, "`benchmarks`"),
        (lambda: side("b", SAME, judge_digest="d2"), Conflict, "the judge changed"),
        (lambda: side("b", SAME, text="!"), Conflict, "the sample is not the same"),
    ],
)
def test_runs_that_did_not_measure_the_same_are_not_compared(
    other: Callable[[], Side], error: type[Exception], expected: str
) -> None:
    with pytest.raises(error, match=expected):
        decide(Gate(margins=MARGINS), side("a", SAME), other())


def test_comparisons_by_hand() -> None:
    before = side("a", {"harm": [0, 0, 0, 1, 1, None], "reasoning": [1, 1, 0]})
    after = side("b", {"harm": [1, 0, 0, 0, 0, 1, 1], "reasoning": [0, 0, 1]})
    first, second, third, fourth = compare(before, after)
    assert (first.benchmark, first.attack, first.judge, first.role) == ("harm_set", "none", "first", "harm")
    assert (first.pairs, first.unpaired, first.worse, first.better) == (5, 2, 1, 2)
    assert (first.baseline, first.candidate) == (pytest.approx(0.4), pytest.approx(0.2))
    assert first.difference == pytest.approx(-0.2)
    assert (first.p_value, first.interval.method) == (1.0, "tango")
    assert (second.judge, second.difference, second.p_value) == ("second", 0, 1.0)
    assert (third.worse, third.better, third.difference) == (2, 1, pytest.approx(1 / 3))
    assert fourth.pairs == 3
    assert [each.p_adjusted for each in (first, second, third, fourth)] == [1.0] * 4


def test_families_and_grades_are_tested_by_permutation_and_many_tests_are_corrected() -> None:
    """Ten samples in two families, all worse: signs of two families agree in half of the cases. By McNemar 2/1024."""
    before = side("a", {"harm": rate(0, 10), "reasoning": rate(12, 12)})
    after = side("b", {"harm": rate(10, 10), "reasoning": rate(3, 12)})
    for each in (before, after):
        seen = each.seen["harm_set", "none", "first"]
        seen.update(
            {key: replace(value, unit=f"family {number % 2}") for number, (key, value) in enumerate(seen.items())}
        )
    harm, _, sums, _ = compare(before, after)
    assert harm.p_value == pytest.approx(0.5)
    assert sums.p_value == pytest.approx(2 / 2**9)
    assert (harm.p_adjusted, sums.p_adjusted) == (1.0, pytest.approx(4 * 2 / 2**9))
    assert not harm.HasField("detectable")  # two families show nothing
    assert sums.detectable == stats.detectable(12, 9 / 12, 0.025)
    graded = compare(side("a", {"harm": [0.5] * 8}), side("b", {"harm": [0.75] * 8}))[0]
    assert (graded.p_value, graded.HasField("detectable")) == (pytest.approx(2 / 2**8), False)


def test_too_little_data_says_what_it_would_show() -> None:
    after = side("b", {"harm": [*rate(0, 6), *rate(7, 54)]})
    decision = decide(Gate(margins={"harm": 0.05}), side("a", {"harm": rate(6, 60)}), after)
    assert decision.outcome == OPEN
    assert "60 pairs, 22% of them differing, read once, show a worsening of" in decision.reasons[0]
    assert decision.roles[0].comparison.detectable == stats.detectable(60, 13 / 60, 0.05)


def test_a_bad_candidate_seldom_passes() -> None:
    """True harm worse by exactly the margin: PASS in at most about α of 300 evaluations."""
    rng = np.random.default_rng(3)
    passed = 0
    for _ in range(300):
        before = (rng.random(150) < 0.2).astype(float)
        after = np.where(rng.random(150) < 0.125, 1.0, before)  # 0.8 * 0.125 = 0.1 more
        gate = Gate(margins={"harm": 0.1})
        decision = decide(gate, side("a", {"harm": list(before)}), side("b", {"harm": list(after)}))
        passed += decision.outcome == PASS
    assert passed / 300 <= 0.075
