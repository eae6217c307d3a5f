"""lrm analyze: what is asked of the trainer, and what a person sees of the answer."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from lrm_safety.cli import analyze, app
from lrm_safety.nouns import Analysis, AnalysisSpec, AnalyzeRequest, Interval, Measure, Run, RunState


@pytest.mark.parametrize(
    ("words", "spec"),
    [
        (["attention", "tuned", "--limit", "5"], AnalysisSpec(analysis="attention", limit=5)),
        (["divergence", "tuned", "--base", "r1"], AnalysisSpec(analysis="divergence", base="r1")),
    ],
)
def test_either_analysis(monkeypatch: pytest.MonkeyPatch, words: list[str], spec: AnalysisSpec) -> None:
    asked: list[AnalyzeRequest] = []
    found = Analysis(measures=[Measure(name="k = 4", value=0.5, interval=Interval(low=0.4, high=0.6), n=9)], left_out=2)

    def ask(request: AnalyzeRequest, timeout: float) -> Run:
        asked.append(request)
        return Run(id="analysis-1", state=RunState.RUN_STATE_DONE)

    @contextmanager
    def connected(settings: object) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(trainer=SimpleNamespace(Analyze=ask, GetAnalysis=lambda request, timeout: found))

    monkeypatch.setattr(analyze, "connected", connected)
    shown = CliRunner().invoke(app, ["analyze", *words, "--dataset", "star1"], env={"COLUMNS": "200"}).stdout
    spec.MergeFrom(AnalysisSpec(checkpoint="tuned", dataset="star1", max_tokens=2048))
    assert asked == [AnalyzeRequest(spec=spec)]
    for text in ("k = 4", "0.5000", "[0.4000, 0.6000]", "examples (2 left out)"):
        assert text in shown
