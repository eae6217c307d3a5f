"""lrm cost: GPU-hours, tokens and money, by team and kind of work."""

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from lrm_safety.cli._output import AsJson, print_json, print_table
from lrm_safety.cli._services import connected
from lrm_safety.clients import rpc
from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import Cost, ListCostsRequest
from lrm_safety.settings import Settings

_ANY = "bench"  # every service that mounts Runs reads the same store
_UNITS_S = {"m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
NOBODY = "(no team)"


@dataclass(frozen=True)
class Row:
    """Sums over pieces of work: jobs and measurements."""

    team: str
    kind: str
    works: int
    gpu_hours: float
    tokens: float
    money: float
    gpu_seconds_per_verdict: float | None  # of engines, where there were both

    def cells(self) -> Sequence[str]:
        each = self.gpu_seconds_per_verdict
        numbers = (f"{self.gpu_hours:.2f}", f"{self.tokens:,.0f}", f"{self.money:.2f}")
        return (self.team, self.kind, str(self.works), *numbers, f"{each:.2f}" if each is not None else "")


def add_to(app: typer.Typer) -> None:
    app.command("cost", epilog="Example: lrm cost --since 7d")(cost)


def cost(
    team: Annotated[str, typer.Option(help="Of this team only.")] = "",
    since: Annotated[str, typer.Option(help="What ended in the last 30m, 12h, 7d, 4w, or goes on.")] = "30d",
    json: AsJson = False,
) -> None:
    """What work has cost: GPU-hours, tokens, money; and the engines' GPU-seconds for each verdict."""
    request = ListCostsRequest(team=team, since=time.time() - seconds(since))
    with connected(Settings.from_env()) as clients:
        costs = rpc(clients.runs(_ANY).ListCosts, request).costs
    if json:
        print_json(costs)
        return
    rows = table(costs)
    columns = ("team", "kind", "jobs and runs", "GPU-hours", "tokens", "money", "GPU-s/verdict")
    print_table(columns, (row.cells() for row in rows), f"nothing was spent in the last {since}")


def seconds(text: str) -> float:
    """Raises InvalidInput for anything but a number and one of m, h, d, w."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", text)
    if not match:
        raise InvalidInput(f"--since is {text!r}; expected a number and m, h, d or w, such as 7d")
    return float(match[1]) * _UNITS_S[match[2]]


def table(costs: Sequence[Cost]) -> list[Row]:
    """A row for each team and kind, then the total; nothing when nothing was spent."""
    groups: dict[tuple[str, str], list[Cost]] = {}
    for each in costs:
        groups.setdefault((each.tenant.team or NOBODY, each.kind), []).append(each)
    rows = []
    for (team, kind), group in sorted(groups.items()):
        whole = [cost for (name, _), others in groups.items() if name == team for cost in others]
        rows.append(_row(team, kind, group, _per_verdict(whole) if kind == "bench" else None))
    return [*rows, _row("total", "", costs, _per_verdict(costs))] if rows else []


def _row(team: str, kind: str, costs: Sequence[Cost], per_verdict: float | None) -> Row:
    gpu_hours = sum(each.gpu_seconds for each in costs) / 3600
    tokens, money = sum(each.tokens for each in costs), sum(each.money for each in costs)
    return Row(team, kind, len(costs), gpu_hours, tokens, money, per_verdict)


def _per_verdict(costs: Iterable[Cost]) -> float | None:
    every = list(costs)
    verdicts = sum(each.verdicts for each in every)
    engines = sum(each.gpu_seconds for each in every if each.kind == "engine")
    return engines / verdicts if verdicts and engines else None
