"""Imported runs: scored like our own, compared by sample id, and refused by a gate that cannot pair them."""

from pathlib import Path

import pytest

from lrm_safety import export, importing
from lrm_safety.clients import rpc
from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import (
    CheckGateRequest,
    Gate,
    GetScorecardRequest,
    ImportRunRequest,
    Outcome,
    RunState,
    Scorecard,
    WatchRunRequest,
)
from tests.bench.conftest import Stage, harm_spec
from tests.exports.measured import measured_run


def imported(stage: Stage, foreign: importing.Foreign) -> Scorecard:
    requests = [ImportRunRequest(scorecard=foreign.scorecard)]
    requests += [ImportRunRequest(record=record) for record in foreign.records]
    started = stage.clients.bench.ImportRun(iter(requests), timeout=30)
    *_, last = stage.clients.runs("bench").WatchRun(WatchRunRequest(id=started.id), timeout=30)
    assert last.state == RunState.RUN_STATE_DONE, last.error
    return rpc(stage.clients.bench.GetScorecard, GetScorecardRequest(run=last.id))


def brought_in(stage: Stage, folder: Path, form: str, refusals: int) -> Scorecard:
    export.write(measured_run(refusals), form, folder)
    return imported(stage, importing.read(folder, []))


@pytest.mark.parametrize("form", ["inspect", "lm_eval"])
def test_an_import_is_scored_like_a_run_and_gated_by_sample_id(stage: Stage, tmp_path: Path, form: str) -> None:
    before = brought_in(stage, tmp_path / "before", form, refusals=10)
    after = brought_in(stage, tmp_path / "after", form, refusals=0)
    own = measured_run(10).scorecard
    assert before.imported.format == form and before.run != after.run
    assert {(c.benchmark, c.attack, c.judge, c.value, c.interval.low, c.n, c.invalid) for c in before.cells} == {
        (c.benchmark, c.attack, c.judge, c.value, c.interval.low, c.n, c.invalid) for c in own.cells
    }
    assert imported(stage, importing.read(tmp_path / "before", [])).run == before.run  # the same file is the same run

    gate = Gate(margins={"harm": 0.02}, alpha=0.05, max_invalid=0.5)
    request = CheckGateRequest(baseline_run=before.run, candidate_run=after.run, gate=gate)
    decision = rpc(stage.clients.bench.CheckGate, request)
    assert decision.outcome == Outcome.OUTCOME_BLOCK, decision.reasons
    assert decision.roles[0].comparison.pairs == 18


def test_a_gate_refuses_an_import_of_other_samples(stage: Stage, tmp_path: Path, harm_file) -> None:
    theirs = brought_in(stage, tmp_path, "inspect", refusals=6)
    ours = stage.measure(harm_spec(harm_file(4)))
    gate = Gate(margins={"harm": 0.02})
    for pair in ((theirs.run, ours.run), (ours.run, theirs.run)):
        request = CheckGateRequest(baseline_run=pair[0], candidate_run=pair[1], gate=gate)
        with pytest.raises(InvalidInput, match=rf"{theirs.run} was imported .* (share 0 of 14 sample ids|is not in)"):
            rpc(stage.clients.bench.CheckGate, request)


def test_a_stream_that_is_no_run_is_refused(stage: Stage, tmp_path: Path) -> None:
    export.write(measured_run(), "inspect", tmp_path)
    foreign = importing.read(tmp_path, [])
    head = ImportRunRequest(scorecard=foreign.scorecard)
    one = ImportRunRequest(record=foreign.records[0])
    stranger = ImportRunRequest(record=foreign.records[1])
    stranger.record.benchmark = "other"
    for requests, says in (
        ([], "begins with a scorecard"),
        ([one], "begins with a scorecard"),
        ([head], "needs benchmarks"),
        ([head, one, one], "the same key"),
        ([head, stranger], "not a benchmark of the import's spec"),
    ):
        with pytest.raises(InvalidInput, match=says):
            rpc(lambda asked, timeout: stage.clients.bench.ImportRun(iter(asked), timeout=timeout), requests)
