"""Costs: recorded while work goes on, counted once in the metrics, summed by team and kind."""

import time

import pytest
from prometheus_client import REGISTRY

from lrm_safety import costs
from lrm_safety.cli.cost import seconds, table
from lrm_safety.errors import InvalidInput
from lrm_safety.jobs import JobSpec, JobState, JobStatus
from lrm_safety.nouns import Completion, Cost, Record, Run, Tenant, Usage, Verdict
from lrm_safety.store import ObjectStore
from services.bench.spending import spent
from services.trainer import meter
from services.trainer.meter import Meter

RED = Tenant(team="red", cost_centre="4711")


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_only_what_came_on_top_is_counted(store: ObjectStore) -> None:
    def counted() -> tuple[float, ...]:
        return (
            metric("lrm_cost_gpu_seconds_total", team="red", kind="training"),
            metric("lrm_cost_token_total", team="red"),
            metric("lrm_cost_money_total", team="red", cost_centre="4711"),
        )

    before = counted()
    for gpu_seconds in (10, 40, 40):
        cost = Cost(id="a", kind="training", tenant=RED, gpu_seconds=gpu_seconds, money=gpu_seconds / 10, tokens=5)
        costs.record(store, cost)
    assert [after - first for after, first in zip(counted(), before, strict=True)] == [40, 5, 4]
    assert costs.find(store, "a") == cost and costs.find(store, "b") is None


def test_a_training_is_metered_from_its_start_to_its_end(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    job = JobSpec(id="training-1-1", command=["x"], gpus=4, nodes=2, node_pool="h100", kind="training")
    meters = Meter(store, job, RED, gpu_hour_price=3.0)
    now = [1000.0]
    monkeypatch.setattr(meter.time, "time", lambda: now[0])

    def note(state: JobState, at: float, started_at: float = 1000.0) -> Cost | None:
        now[0] = at
        meters.note(JobStatus(job.id, state, started_at=started_at))
        return costs.find(store, job.id)

    assert note(JobState.QUEUED, 1000, started_at=0) is None
    assert (note(JobState.RUNNING, 1010) or Cost()).gpu_seconds == 80
    assert (note(JobState.RUNNING, 1020) or Cost()).gpu_seconds == 80, "not every half second"
    ended = note(JobState.DONE, 1900)
    assert ended == Cost(
        id=job.id,
        kind="training",
        tenant=RED,
        gpu_seconds=7200,
        money=6,
        node_pool="h100",
        started_at=1000,
        ended_at=1900,
    )
    assert note(JobState.DONE, 5000) == ended, "a later owner sees the same end"


def test_a_measurement_pays_for_what_was_generated_and_counts_what_was_judged() -> None:
    def row(key: str, tokens: int, cached: bool = False, invalid: str = "") -> Record:
        completion = Completion(usage=Usage(completion_tokens=tokens), cached=cached)
        return Record(key=key, completion=completion, verdicts=[Verdict(judge="refusal", invalid=invalid)])

    run = Run(id="bench-1", tenant=RED, created_at=7)
    cost = spent(run, [row("a", 10), row("a", 10), row("b", 5, cached=True), row("c", 1, invalid="no label")])
    assert (cost.tokens, cost.verdicts, cost.tenant, cost.started_at) == (21, 2, RED, 7)
    assert time.time() - cost.ended_at < 5


def test_a_row_for_each_team_and_kind_and_the_total() -> None:
    rows = table(
        [
            Cost(id="1", kind="training", tenant=RED, gpu_seconds=7200, money=6),
            Cost(id="2", kind="engine", tenant=RED, gpu_seconds=3600, money=3),
            Cost(id="3", kind="bench", tenant=RED, tokens=1000, verdicts=900),
            Cost(id="4", kind="bench", tokens=500, verdicts=100),
        ]
    )
    assert [(row.team, row.kind, row.works) for row in rows] == [
        ("(no team)", "bench", 1),
        ("red", "bench", 1),
        ("red", "engine", 1),
        ("red", "training", 1),
        ("total", "", 4),
    ]
    assert [row.gpu_seconds_per_verdict for row in rows] == [None, 4, None, None, 3.6]
    assert rows[-1].cells() == ("total", "", "4", "3.00", "1,500", "9.00", "3.60")
    assert table([]) == []


def test_since() -> None:
    assert [seconds(text) for text in ("30m", "12h", "7d", "1.5w")] == [1800, 43200, 604800, 907200]
    for wrong in ("", "7", "d", "-1d", "1y"):
        with pytest.raises(InvalidInput, match="such as 7d"):
            seconds(wrong)
