"""lrm gate: may this checkpoint ship? A checkpoint under a policy, or two bench runs that are there already."""

from pathlib import Path
from typing import Annotated

import typer

from lrm_safety import policy as policies
from lrm_safety.cli import _ci
from lrm_safety.cli._live import followed
from lrm_safety.cli._output import AsJson, console, errors, print_json
from lrm_safety.cli._services import connected
from lrm_safety.cli.report import EXIT_CODES, gather
from lrm_safety.clients import Clients, rpc
from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import CheckGateRequest, Decision, Gate, GateCheckpointRequest, Outcome, Run
from lrm_safety.settings import Settings


def add_to(app: typer.Typer) -> None:
    app.command("gate", epilog="Example: lrm gate --checkpoint tuned@1f2e3d4c --policy gate.yaml --wait --out verdict")(
        gate
    )


def gate(  # noqa: PLR0913, PLR0917  an option each
    baseline: Annotated[str, typer.Argument(help="Bench run of the checkpoint to compare with.")] = "",
    candidate: Annotated[str, typer.Argument(help="Bench run of the new checkpoint.")] = "",
    margin: Annotated[list[str], typer.Option(help="Of two runs: role=acceptable worsening; repeat.")] = [],  # noqa: B006
    alpha: Annotated[float, typer.Option(help="Of two runs: one-sided error rate.")] = 0.05,
    max_invalid: Annotated[float, typer.Option(help="Of two runs: share of invalid samples that may PASS.")] = 0.05,
    checkpoint: Annotated[str, typer.Option(help="Gate this one: name (the newest) or name@digest.")] = "",
    policy: Annotated[Path | None, typer.Option(help="How; see k8s/ci/gate.yaml.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until the verdict is there.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for junit.xml, summary.md and verdict.json, also of an error.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Gate a checkpoint under a policy, or compare two bench runs on the same samples.

    What a sequential policy claims (`wider`, or `items` in fewer samples) and costs: k8s/ci/gate.yaml.
    Exit code: 0 PASS (or asked, without --wait), 1 BLOCK, 2 INCONCLUSIVE, 3 error.
    """
    settings = Settings.from_env()
    if bool(checkpoint) != bool(policy) or bool(checkpoint) == bool(baseline and candidate):
        raise InvalidInput("expected --checkpoint with --policy, or two bench runs with --margin; see: lrm gate --help")
    if policy:
        with _ci.errors_into(out, checkpoint):
            request = GateCheckpointRequest(
                checkpoint=checkpoint,
                policy=policies.load(policy),
                commit=policies.check_commit(settings.commit, "LRM_COMMIT"),
            )
            with connected(settings) as clients:
                decision = _gate_checkpoint(clients, request, wait, out, json)
    else:
        wanted = Gate(margins=dict(_margin(text) for text in margin), alpha=alpha, max_invalid=max_invalid)
        with connected(settings) as clients:
            asked = CheckGateRequest(baseline_run=baseline, candidate_run=candidate, gate=wanted)
            decision = rpc(clients.bench.CheckGate, asked)
    if decision is None:
        return
    if json:
        print_json(decision)
    else:
        console.print(Outcome.Name(decision.outcome).removeprefix("OUTCOME_"))
        for reason in decision.reasons:
            console.print(f"  {reason}", highlight=False)
    raise typer.Exit(EXIT_CODES[decision.outcome])


def _gate_checkpoint(
    clients: Clients, request: GateCheckpointRequest, wait: bool, out: Path | None, json: bool
) -> Decision | None:
    """The decision, or None when it is not waited for."""

    def ask() -> Run:
        return rpc(clients.bench.GateCheckpoint, request)

    if not wait:
        run = ask()
        print_json(run) if json else console.print(run.id, highlight=False)
        return None
    run = followed(clients, "bench", "gate", ask)
    data = gather(clients, run.id)
    if out:
        _ci.write(data, out)
        errors.print(f"verdict: {out}   report: lrm report {run.id}", highlight=False, soft_wrap=True)
    return data.outcome.decision


def _margin(text: str) -> tuple[str, float]:
    role, _, value = text.partition("=")
    try:
        return role, float(value)
    except ValueError:
        raise InvalidInput(f"--margin {text!r}: expected role=share, for example harm=0.02") from None
