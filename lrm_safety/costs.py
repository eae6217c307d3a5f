"""What work has cost, for whom: one object a job or run in the store, rewritten while it goes on.

costs/<id>.json
"""

from lrm_safety import jsonl, observe
from lrm_safety.errors import NotFound
from lrm_safety.nouns import Cost
from lrm_safety.store import ObjectStore


def record(store: ObjectStore, cost: Cost) -> None:
    """The newest word about this piece of work replaces the one before; what came on top is counted in the metrics."""
    before = find(store, cost.id) or Cost()
    store.write(_key(cost.id), jsonl.dumps(cost).encode())
    team, centre = cost.tenant.team, cost.tenant.cost_centre
    gpu_seconds = max(cost.gpu_seconds - before.gpu_seconds, 0)
    observe.add("lrm_cost_gpu_seconds_total", gpu_seconds, team=team, kind=cost.kind)
    observe.add("lrm_cost_token_total", max(cost.tokens - before.tokens, 0), team=team)
    observe.add("lrm_cost_money_total", max(cost.money - before.money, 0), team=team, cost_centre=centre)


def find(store: ObjectStore, id_: str) -> Cost | None:
    """Of one job or run."""
    try:
        return jsonl.loads(Cost, store.read(_key(id_)))
    except NotFound:
        return None


def list_costs(store: ObjectStore, team: str = "", since: float = 0.0) -> list[Cost]:
    """What ended after `since` or goes on, newest first; of one team, or of all."""
    found = (jsonl.loads(Cost, store.read(key)) for key in store.list("costs/"))
    wanted = [cost for cost in found if team in ("", cost.tenant.team) and (not cost.ended_at or cost.ended_at > since)]
    return sorted(wanted, key=lambda cost: -cost.started_at)


def _key(id_: str) -> str:
    return f"costs/{id_}.json"
