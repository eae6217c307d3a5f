"""lrm verify: is this decision signed by that key, and about these weights?"""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from lrm_safety import artefacts, statement
from lrm_safety.cli._output import AsJson, console, print_json
from lrm_safety.errors import Conflict, NotFound
from lrm_safety.nouns import Checkpoint, reference
from lrm_safety.settings import Settings
from lrm_safety.store import ObjectStore, open_store


def add_to(app: typer.Typer) -> None:
    app.command("verify", epilog="Example: lrm verify gate-1f… --key public.pem --checkpoint tuned")(verify)


def verify(
    decision: Annotated[str, typer.Argument(help="A run, or a decision.dsse.json.")],
    key: Annotated[Path, typer.Option(help="Public key, ed25519, PEM.")],
    checkpoint: Annotated[str, typer.Option(help="It must be about this one: name or name@digest.")] = "",
    json: AsJson = False,
) -> None:
    """Check a signed decision against a key and the store's weights, and say what was checked.

    Exit code: 0 when all of it holds, whatever the verdict is; 3 when anything does not.
    """
    store = open_store(Settings.from_env())
    text = _read(store, decision)
    found = statement.verify(text, key)
    made = statement.check_subject(store, found.subject)
    is_kept = statement.check_decision(store, text, found)
    if checkpoint:
        wanted = artefacts.find(store, "checkpoints", Checkpoint, checkpoint)
        if reference(wanted.name, wanted.digest) != found.subject:
            raise Conflict(
                f"the decision is about {found.subject}, not {wanted.name}@{wanted.digest}; ask for that one's"
            )
    decided = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(found.predicate["decidedAt"]))
    size = sum(entry.size for entry in made.files)
    checked = {
        "signature": f"good, by the key {key}",
        "subject": f"{found.subject}{' is what you named' if checkpoint else ''}",
        "weights": f"all {len(made.files)} files of the store ({size / 1e6:,.1f} MB) have the bytes that were signed",
        "decision": f"{found.verdict}, {decided}, against {found.predicate['baseline']}",
        "margins": _margins(found.predicate),
        "policy": f"sha256 {found.predicate['policy']['digest']}",
        "statement": f"sha256 {statement.digest(text)}, "
        + ("as the store's decision says" if is_kept else "of which this store has no decision"),
        "waivers": "; ".join(f"{each['what']} by {each['who']}" for each in found.predicate["waivers"]) or "none",
        "not checked": "that the measurement was made honestly: for this you trust who holds the key",
    }
    if json:
        print_json({"verdict": found.verdict, "subject": found.subject, "checked": checked, **found.predicate})
    else:
        for what, words in checked.items():
            console.print(f"{what:<12} {words}", highlight=False, markup=False, soft_wrap=True)


def _margins(predicate: dict[str, Any]) -> str:
    """What was allowed: the largest worsening of each role, in points."""
    return ", ".join(f"{each['role']} {100 * each['margin']:g} points ({each['tier']})" for each in predicate["roles"])


def _read(store: ObjectStore, decision: str) -> str:
    if Path(decision).is_file():
        return Path(decision).read_text(encoding="utf-8", errors="replace")
    key = f"runs/{decision}/{statement.FILE}"
    if store.stat(key) is None:
        raise NotFound(
            f"{decision} is no file and no run with a signed decision: they are signed where LRM_SIGNING_KEY is set"
        )
    return store.read(key).decode()
