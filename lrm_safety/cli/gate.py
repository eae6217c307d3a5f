"""lrm gate: may this checkpoint ship? Decides between two bench runs."""

from typing import Annotated

import typer

from lrm_safety.cli._output import AsJson, console, print_json
from lrm_safety.cli._services import connected
from lrm_safety.cli.report import EXIT_CODES
from lrm_safety.clients import rpc
from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import CheckGateRequest, Gate, Outcome
from lrm_safety.settings import Settings


def add_to(app: typer.Typer) -> None:
    app.command("gate", epilog="Example: lrm gate bench-1f… bench-9c… --margin harm=0 --margin reasoning=0.05")(gate)


def gate(
    baseline: Annotated[str, typer.Argument(help="Bench run of the checkpoint to compare with.")],
    candidate: Annotated[str, typer.Argument(help="Bench run of the new checkpoint.")],
    margin: Annotated[list[str], typer.Option(help="role=largest acceptable worsening, e.g. harm=0.02; repeat.")],
    alpha: Annotated[float, typer.Option(help="One-sided error rate.")] = 0.05,
    max_invalid: Annotated[float, typer.Option(help="Share of invalid samples above which nothing PASSes.")] = 0.05,
    json: AsJson = False,
) -> None:
    """Compare two bench runs on the same samples. Exit code: 0 PASS, 1 BLOCK, 2 INCONCLUSIVE, 3 error."""
    wanted = Gate(margins=dict(_margin(text) for text in margin), alpha=alpha, max_invalid=max_invalid)
    with connected(Settings.from_env()) as clients:
        request = CheckGateRequest(baseline_run=baseline, candidate_run=candidate, gate=wanted)
        decision = rpc(clients.bench.CheckGate, request)
    if json:
        print_json(decision)
    else:
        console.print(Outcome.Name(decision.outcome).removeprefix("OUTCOME_"))
        for reason in decision.reasons:
            console.print(f"  {reason}", highlight=False)
    raise typer.Exit(EXIT_CODES[decision.outcome])


def _margin(text: str) -> tuple[str, float]:
    role, _, value = text.partition("=")
    try:
        return role, float(value)
    except ValueError:
        raise InvalidInput(f"--margin {text!r}: expected role=share, for example harm=0.02") from None
