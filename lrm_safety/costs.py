"""What work has cost, for whom: one object a job or run in the store, rewritten while it goes on.

costs/<id>.json
"""

from lrm_safety import jsonl
from lrm_safety.errors import NotFound
from lrm_safety.nouns import Cost
from lrm_safety.store import ObjectStore


def record(store: ObjectStore, cost: Cost) -> None:
    """The newest word about this piece of work replaces the one before."""
    store.write(f"costs/{cost.id}.json", jsonl.dumps(cost).encode())


def find(store: ObjectStore, id_: str) -> Cost | None:
    """The newest word about one piece of work; None when nothing was said."""
    try:
        return jsonl.loads(Cost, store.read(f"costs/{id_}.json"))
    except NotFound:
        return None


def list_costs(store: ObjectStore, team: str = "", since: float = 0.0) -> list[Cost]:
    """What ended after `since` or goes on, newest first; of one team, or of all."""
    found = (jsonl.loads(Cost, store.read(key)) for key in store.list("costs/"))
    wanted = [cost for cost in found if team in ("", cost.tenant.team) and (not cost.ended_at or cost.ended_at > since)]
    return sorted(wanted, key=lambda cost: -cost.started_at)
