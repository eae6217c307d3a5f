"""Keeping a decision: as a message, as the outcome that reports read, and signed where there is a key.

runs/<id>/decision.json         the Decision
runs/<id>/decision.dsse.json    the same as a signed statement
runs/<id>/outcome.json          the whole outcome, of recipes and gates
"""

from lrm_safety import jsonl, statement
from lrm_safety.nouns import RecipeOutcome
from lrm_safety.settings import Settings
from lrm_safety.store import ObjectStore


def keep(store: ObjectStore, settings: Settings, outcome: RecipeOutcome, is_whole: bool = True) -> None:
    """Writes it under `outcome.run`, with the digest of its signed statement.

    Raises NotFound or InvalidInput for a key that cannot sign.
    """
    root = f"runs/{outcome.run}"
    outcome.decision.statement_digest = ""
    if settings.signing_key is not None and outcome.decision.roles and statement.is_ours(outcome):
        signed = statement.sign(outcome, settings.signing_key)
        store.write(f"{root}/{statement.FILE}", signed.encode())
        outcome.decision.statement_digest = statement.digest(signed)
    else:
        store.delete(f"{root}/{statement.FILE}")  # of an earlier decision
    store.write(f"{root}/decision.json", jsonl.dumps(outcome.decision).encode())
    if is_whole:
        store.write(f"{root}/outcome.json", jsonl.dumps(outcome).encode())
