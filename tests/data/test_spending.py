"""What builds spend on models is listed with everything else that costs, by team, whatever becomes of them."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from lrm_safety.cli.cost import table
from lrm_safety.clients import Clients, rpc
from lrm_safety.nouns import (
    Asked,
    Budget,
    Completion,
    Cost,
    ListCostsRequest,
    Prompt,
    Run,
    RunState,
    Sampling,
    Tenant,
    Usage,
    Writer,
)
from lrm_safety.settings import Settings
from services.data import service
from services.data.budget import Purse
from services.data.spending import spent
from tests.bench.scripted import ScriptedInference
from tests.data import files
from tests.data.files import dataset, part
from tests.data.scripted_ask import completed
from tests.data.scripted_build import ask, ended

TOKENS, ROWS = 10, 20
PRICE = 5000.0  # of a million tokens
WRITER = Writer(endpoint="base", sampling=Sampling(max_tokens=TOKENS), completion_price=PRICE)


def answer(prompt: Prompt, tokens: int = TOKENS) -> Completion:
    said = completed("<think>\nHm.\n</think>\n\nSo.")
    said.id, said.usage.completion_tokens = prompt.id, tokens
    return said


@pytest.fixture
def rows(serve: Callable, tmp_path: Path) -> Path:
    serve("inference", ScriptedInference(script=answer).register)
    serve("data", service.register)
    return files.jsonl(tmp_path / "rows.jsonl", [{"prompt": f"Question {n}?", "answer": "So."} for n in range(ROWS)])


@pytest.fixture
def red(settings: Settings) -> Iterator[Clients]:
    made = Clients(replace(settings, team="red", cost_centre="4711"))
    yield made
    made.close()


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def counted() -> tuple[float, float]:
    return (
        metric("lrm_cost_token_total", team="red"),
        metric("lrm_cost_money_total", team="red", cost_centre="4711"),
    )


def costs(clients: Clients, team: str = "") -> list[Cost]:
    return list(rpc(clients.runs("data").ListCosts, ListCostsRequest(team=team)).costs)


def test_a_build_that_asks_is_listed_with_tokens_and_money(rows: Path, red: Clients, clients: Clients) -> None:
    before = counted()
    run = ended(red, ask(red, dataset(part(rows, "default", writer=WRITER))))
    assert run.state == RunState.RUN_STATE_DONE, run.error
    assert ended(clients, ask(clients, dataset(part(rows), name="unasked"))).state == RunState.RUN_STATE_DONE
    (cost,) = costs(clients)
    assert (cost.id, cost.kind, cost.tenant.team) == (run.id, "dataset", "red")
    assert (cost.tokens, cost.money) == (ROWS * TOKENS, pytest.approx(1.0))
    assert cost.ended_at >= cost.started_at > 0
    assert [after - first for after, first in zip(counted(), before, strict=True)] == [200, pytest.approx(1.0)]
    assert table([cost])[0].cells() == ("red", "dataset", "1", "0.00", "200", "1.00", "")


def test_a_build_that_fails_has_cost_what_it_has_cost(rows: Path, red: Clients) -> None:
    spec = dataset(part(rows, "default", writer=WRITER))
    spec.budget.max_tokens = 100
    for _ in range(2):  # the second time nothing is spent
        run = ended(red, ask(red, spec))
        assert run.state == RunState.RUN_STATE_FAILED
        assert [cost.tokens for cost in costs(red, "red")] == [100]
    assert costs(red, "blue") == []


def test_what_owners_before_spent_counts_once() -> None:
    """Of 100 noted tokens 60 were for finished rows; of an owner that was killed only these are known."""
    run = Run(id="dataset-1", tenant=Tenant(team="red"), created_at=7)
    for noted, tokens in ((Cost(tokens=100, money=1.0), 150), (Cost(), 110)):
        purse = Purse(Budget())
        purse.spent_before(Asked(completion_tokens=60, cost=0.6))
        with purse.paying(WRITER, Usage()) as pay:
            pay(answer(Prompt(), 50))
        cost = spent(run, purse, noted)
        assert (cost.tokens, cost.tenant.team, cost.started_at) == (tokens, "red", 7)
        assert cost.money == pytest.approx(0.6 + 0.25 + (0.4 if noted.money else 0))
