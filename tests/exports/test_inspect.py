"""Inspect itself reads what we wrote, and we read what Inspect wrote."""

import math

import pytest

from lrm_safety import importing
from lrm_safety.errors import InvalidInput
from lrm_safety.measured import measure
from lrm_safety.nouns import ThinkState
from tests.exports.conftest import Inspected
from tests.exports.measured import MODEL, SECRET


@pytest.mark.slow
def test_inspect_reads_its_log(inspected: Inspected) -> None:
    run = inspected.exported
    logs = {(log["eval"]["task"], log["eval"]["task_args"]["attack"]): log for log in inspected.read_back}
    assert len({log["eval"]["task_id"] for log in logs.values()}) == 3  # else they pass for retries of one task
    assert set(logs) == {("strongreject", "none"), ("strongreject", "prefill"), ("math500", "none")}

    harm = logs["strongreject", "none"]
    assert (harm["status"], harm["eval"]["model"], harm["summaries"]) == ("success", MODEL, 10)
    cell = run.cells["strongreject", "none", "refusal"]
    (score, second) = harm["results"]["scores"]
    metric = score["metrics"]["asr"]
    assert (second["scorer"], score["unscored_samples"], metric["value"]) == ("second", 2, cell.value)
    assert (metric["metadata"]["low"], metric["metadata"]["high"]) == (cell.interval.low, cell.interval.high)
    values = [sample["scores"]["refusal"]["value"] for sample in harm["samples"]]
    scored = [value for value in values if isinstance(value, float) and not math.isnan(value)]
    assert len(scored) == cell.n and sum(scored) / len(scored) == cell.value

    samples = {(sample["id"], sample["epoch"]): sample for sample in logs["math500", "none"]["samples"]}
    assert set(samples) == {(f"sum/{number}", epoch) for number in range(8) for epoch in (1, 2)}
    thought, answered = samples["sum/0", 1]["output"]["choices"][0]["message"]["content"]
    assert (thought["reasoning"], answered["text"]) == (f"{SECRET} thinking", f"{SECRET} answer")
    assert logs["math500", "none"]["stats"]["model_usage"][MODEL]["output_tokens"] == 16 * 5
    broken = next(sample for sample in harm["samples"] if sample["error"])
    assert broken["scores"]["refusal"]["reason"] == "engine error" and not broken["output"]["choices"]


@pytest.mark.slow
def test_logs_that_inspect_wrote(inspected: Inspected) -> None:
    for form in ("eval", "json"):
        (log,) = (inspected.written / form).iterdir()
        foreign = importing.read(log, ["sums=reasoning"])
        assert foreign.scorecard.endpoint == "mockllm/model" and foreign.scorecard.imported.file == log.name
        (asked,) = foreign.scorecard.spec.benchmarks
        assert [judge.judge for judge in asked.judges] == ["includes", "match"]
        made = {record.sample.id: record for record in foreign.records}
        assert {id_: measure(record, "match").value for id_, record in made.items()} == {
            f"s{n}": float(n < 3) for n in range(6)
        }
        one = made["s5"]
        assert (one.completion.thinking, one.completion.answer, one.sample.target) == ("hm", "2", "5")
        assert one.completion.think_state == ThinkState.THINK_STATE_CLOSED
        assert one.sample.messages[0].content == "5 plus 0?" + " please" * 50
        assert one.completion.usage.completion_tokens == 5
    with pytest.raises(InvalidInput, match="what does sums measure"):
        importing.read(log, [])
