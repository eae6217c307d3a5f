"""The report's numbers in a terminal, in Markdown and in JSON.

`python -m tests.report.test_numbers` rewrites the golden files.
"""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from lrm_safety.nouns import Cell, Interval, Outcome, RecipeOutcome, Scorecard
from lrm_safety.report import ReportData, as_json, markdown, terminal
from lrm_safety.report.facts import change_of
from tests.report.sample_outcome import HOSTILE, SECRET, report_data, scorecard

GOLDEN = Path(__file__).parent / "golden"


def golden_texts() -> dict[str, str]:
    data = report_data()
    return {
        "report.md": markdown(data),
        "report.json": json.dumps(as_json(data), indent=2, ensure_ascii=False) + "\n",
        "report.txt": on_screen(data, 80),
    }


def on_screen(data: ReportData, width: int) -> str:
    said = io.StringIO()
    terminal(data, Console(file=said, width=width, no_color=True))
    return "\n".join(line.rstrip() for line in said.getvalue().splitlines()) + "\n"


def with_outcome(outcome: RecipeOutcome) -> ReportData:
    return ReportData(outcome, None, [], lambda run: iter([]))


def one_cell(**fields) -> ReportData:
    cell = Cell(benchmark="b", attack="none", judge="j", role="harm", metric="asr", lower_is_better=True, **fields)
    return with_outcome(RecipeOutcome(run="bench-1", baseline=Scorecard(run="bench-1", cells=[cell])))


@pytest.mark.parametrize("name", ["report.md", "report.json", "report.txt"])
def test_golden(name: str) -> None:
    assert golden_texts()[name] == (GOLDEN / name).read_text(encoding="utf-8")


def test_terminal_keeps_to_80_columns_and_needs_no_colour() -> None:
    said = on_screen(report_data(), 80)
    assert max(map(len, said.splitlines())) <= 80
    assert "\x1b" not in said
    assert "BLOCK" in said and "−54.0 better" in said and "+9.0 worse" in said and "−2.0 unclear" in said


def test_no_sample_text_in_the_numbers() -> None:
    assert SECRET not in "".join(golden_texts().values())


def test_change_is_turned_back_into_the_metrics_direction() -> None:
    comparison = report_data().outcome.comparisons[3]  # accuracy fell by 2 points: worse by +2 [-5, +10]
    change = change_of(comparison, lower_is_better=False)
    assert (round(change.value, 4), round(change.low, 4), round(change.high, 4)) == (-0.02, -0.1, 0.05)
    assert change.is_worse and not change.is_known


@pytest.mark.parametrize(
    ("outcome", "word"), [(Outcome.OUTCOME_PASS, "PASS"), (Outcome.OUTCOME_INCONCLUSIVE, "INCONCLUSIVE")]
)
def test_verdict_words(outcome: int, word: str) -> None:
    data = report_data()
    data.outcome.decision.outcome = outcome
    assert as_json(data)["verdict"] == word
    assert word in on_screen(data, 80) and word in markdown(data)


def test_one_model_has_no_empty_columns() -> None:
    data = with_outcome(RecipeOutcome(run="bench-1", baseline=scorecard("bench-1", "smollm2", 5)))
    assert as_json(data)["candidate"] is None and as_json(data)["verdict"] == "MEASURED"
    assert "| Model |" in markdown(data) and "Trained" not in markdown(data)
    assert "model, n" in on_screen(data, 80) and "→" not in on_screen(data, 80)


def test_an_empty_outcome_is_said_to_be_empty() -> None:
    data = with_outcome(RecipeOutcome())
    assert "Nothing was measured" in markdown(data) and "Nothing was measured" in on_screen(data, 60)
    assert as_json(data)["cells"] == []


def test_a_cell_without_samples_has_no_rate() -> None:
    data = one_cell(n=0, invalid=7, invalid_reasons={"engine error": 7})
    assert as_json(data)["cells"][0]["baseline"]["value"] is None
    assert "– n 0" in markdown(data) and "0.0 %" not in markdown(data)
    assert "– n 0" in on_screen(data, 80)


def test_a_rate_of_zero_is_a_rate() -> None:
    data = one_cell(n=9, value=0.0, interval=Interval(low=0, high=0.3, level=0.95))
    assert "0.0 % [0.0, 30.0] n 9" in markdown(data)


def test_numbers_that_json_has_not() -> None:
    data = report_data()
    data.metrics[-1].loss = float("nan")
    assert json.loads(json.dumps(as_json(data), allow_nan=False))["training"]["loss"] is None


def test_hostile_names_stay_in_their_place() -> None:
    data = report_data()
    data.outcome.recipe.name = f"a | b\n# c {HOSTILE}"
    data.outcome.decision.reasons[:] = ["[link](http://x) [bold red]not markup[/] \x1b[31m"]
    text = markdown(data)
    assert text.startswith("# a \\| b \\# c &lt;/script&gt;") and "\n# c" not in text and "\x00" not in text
    assert "\\[link\\]" in text
    said = on_screen(data, 80)
    assert "[bold red]not markup[/]" in said and "\x1b" not in said and "\x00" not in said


def test_a_run_that_stopped_early_says_how_many_of_how_many() -> None:
    data = one_cell(n=118, invalid=2, planned=400)
    for text in (markdown(data), on_screen(data, 120)):
        assert "118 of 400" in text
    assert "of 400" not in markdown(one_cell(n=398, invalid=2, planned=400))


if __name__ == "__main__":
    for file, content in golden_texts().items():
        (GOLDEN / file).write_text(content, encoding="utf-8")
