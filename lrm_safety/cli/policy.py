"""lrm policy: which checkpoints are gated without being asked."""

from pathlib import Path
from typing import Annotated

import typer

from lrm_safety import policy as policies
from lrm_safety.cli._output import AsJson, console, print_json, print_table
from lrm_safety.cli._services import connected
from lrm_safety.clients import rpc
from lrm_safety.nouns import ListPoliciesRequest, RegisterPolicyRequest
from lrm_safety.settings import Settings


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(help="Which checkpoints are gated without being asked.", no_args_is_help=True)
    group.command("add", epilog="Example: lrm policy add k8s/ci/gate.yaml")(add)
    group.command("list", epilog="Example: lrm policy list")(show)
    app.add_typer(group, name="policy")


def add(
    file: Annotated[Path, typer.Argument(help="A policy; k8s/ci/gate.yaml is one to start from.")], json: AsJson = False
) -> None:
    """Register a policy: from now on every new checkpoint that it names gets its verdict."""
    request = RegisterPolicyRequest(policy=policies.load(file))
    with connected(Settings.from_env()) as clients:
        made = rpc(clients.bench.RegisterPolicy, request)
    if json:
        print_json(made)
    else:
        console.print(f"{made.name}: gates {', '.join(made.checkpoints)} while the services run", highlight=False)


def show(json: AsJson = False) -> None:
    """List the registered policies."""
    with connected(Settings.from_env()) as clients:
        found = rpc(clients.bench.ListPolicies, ListPoliciesRequest()).policies
    if json:
        print_json(found)
        return
    rows = [
        (
            each.name,
            ", ".join(each.checkpoints),
            ", ".join(benchmark.benchmark for benchmark in each.evaluation.benchmarks),
            ", ".join(f"{role} {margin:g}" for role, margin in sorted(each.gate.margins.items())),
            f"{each.gate.method} {each.gate.claim}".strip(),
            each.priority,
        )
        for each in found
    ]
    print_table(
        ("policy", "checkpoints", "benchmarks", "margins", "method, claim", "priority"),
        rows,
        "none yet: lrm policy add gate.yaml",
    )
