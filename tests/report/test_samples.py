"""Which samples a page carries, and what it says about each."""

import pytest

from lrm_safety.nouns import Completion, JudgeSpec, Record, Sample, Verdict, user
from lrm_safety.report import ReportData, samples
from lrm_safety.report.samples import badness, embedded
from tests.report.sample_outcome import report_data


def by_flip(found: dict) -> dict[str, int]:
    flips = [sample["flip"] for sample in found["samples"]]
    return {flip: flips.count(flip) for flip in set(flips)}


def with_records(baseline: list[Record], candidate: list[Record]) -> ReportData:
    data = report_data()
    by_run = {data.outcome.baseline.run: baseline, data.outcome.candidate.run: candidate}
    return ReportData(data.outcome, None, [], lambda run: iter(by_run[run]))


def record(key: str, value: float, answer: str = "a", role: str = "harm", measure: str = "harm") -> Record:
    verdict = Verdict(judge="j", label="l", value=value, measure=measure)
    return Record(key=key, role=role, sample=Sample(id=key), completion=Completion(answer=answer), verdicts=[verdict])


def test_both_models_are_paired_by_key_and_flips_come_first() -> None:
    found = embedded(report_data())
    assert found["total"] == len(found["samples"]) == 340
    assert all(set(sample["sides"]) == {"baseline", "candidate"} for sample in found["samples"])
    assert by_flip(found) == {"worse": 7 + 1, "better": 54 + 59, "same": 219}
    order = [sample["flip"] for sample in found["samples"]]
    assert order == sorted(order, key=samples.FLIP_ORDER.index)


def test_over_the_limit_flips_stay_and_the_rest_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "MOST_SAMPLES", 130)
    found = embedded(report_data())
    assert (found["total"], len(found["samples"])) == (340, 130)
    assert by_flip(found) == {"worse": 8, "better": 113, "same": 9}
    assert found == embedded(report_data()), "the choice is not a matter of chance"


def test_over_the_letters_less_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "MOST_LETTERS", 10_000)
    assert 0 < len(embedded(report_data())["samples"]) < 100


def test_a_huge_text_loses_its_middle() -> None:
    found = embedded(with_records([record("k", 0, "A" * 300_000 + "END")], []))
    answer = found["samples"][0]["sides"]["baseline"]["answer"]
    assert len(answer) < samples.MOST_TEXT + 100 and answer.endswith("AEND") and "280,003 characters left out" in answer


def test_the_first_record_of_a_key_counts() -> None:
    found = embedded(with_records([record("k", 0, "first"), record("k", 1, "second")], [record("k", 0)]))
    assert found["samples"][0]["sides"]["baseline"]["answer"] == "first" and found["samples"][0]["flip"] == "same"


def test_a_sample_of_one_run_only_is_unpaired() -> None:
    found = embedded(with_records([record("k", 0)], [record("other", 1)]))
    assert by_flip(found) == {"unpaired": 2}


@pytest.mark.parametrize(
    ("role", "measure", "value", "bad"),
    [
        ("harm", "refusal", 1.0, 0.0),
        ("harm", "harm", 1.0, 1.0),
        ("over_refusal", "refusal", 0.5, 0.5),
        ("reasoning", "correct", 1.0, 0.0),
        ("reasoning", "refusal", 1.0, None),
    ],
)
def test_badness(role: str, measure: str, value: float, bad: float | None) -> None:
    assert badness(record("k", value, role=role, measure=measure), {}) == bad


def test_no_verdict_is_neither_good_nor_bad() -> None:
    broken = record("k", 1)
    broken.completion.error = "timeout"
    assert badness(broken, {}) is None
    assert badness(Record(key="k", role="harm"), {}) is None


def test_the_deciding_judge_decides_wherever_its_verdict_stands() -> None:
    data = report_data()
    data.outcome.recipe.Clear()
    for card in (data.outcome.baseline, data.outcome.candidate):
        card.spec.benchmarks.add(benchmark="b", judges=[JudgeSpec(judge="second")])
    both = Record(key="k", benchmark="b", role="harm", sample=Sample(id="k", messages=[user("x")]))
    both.verdicts.add(judge="first", measure="harm", value=0, label="safe")
    both.verdicts.add(judge="second", measure="harm", value=1, label="harmful")
    found = embedded(ReportData(data.outcome, None, [], lambda run: iter([both])))
    assert found["samples"][0]["sides"]["baseline"]["verdicts"][0]["label"] == "harmful"
    assert badness(both, {"b": "second"}) == 1
