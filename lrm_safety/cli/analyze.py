"""lrm analyze: look inside a model: what it attends to, how far it is from another, token by token."""

from functools import partial
from typing import Annotated

import typer

from lrm_safety.cli._live import followed
from lrm_safety.cli._output import AsJson, print_json, print_table
from lrm_safety.cli._services import connected
from lrm_safety.clients import rpc
from lrm_safety.nouns import Analysis, AnalysisSpec, AnalyzeRequest, GetAnalysisRequest, Measure
from lrm_safety.settings import Settings


def add_to(app: typer.Typer) -> None:
    epilog = "Example: lrm analyze divergence tuned --base r1 --dataset star1"
    app.command("analyze", epilog=epilog, no_args_is_help=True)(analyze)


def analyze(  # noqa: PLR0913, PLR0917  (a parameter is a flag)
    analysis: Annotated[str, typer.Argument(help="attention or divergence.")],
    checkpoint: Annotated[str, typer.Argument(help="name or name@digest.")],
    dataset: Annotated[str, typer.Option(help="Its examples are read: name or name@digest.")],
    base: Annotated[str, typer.Option(help="divergence: the checkpoint it is compared with.")] = "",
    limit: Annotated[int, typer.Option(help="So many examples, drawn at random; 0 = all.")] = 0,
    max_tokens: Annotated[int, typer.Option(help="Longer examples are left out.")] = 2048,
    template: Annotated[str, typer.Option(help="Chat template by name; default the checkpoint's own.")] = "",
    json: AsJson = False,
) -> None:
    """Look inside a model (SafeKey's study).

    attention: share of the key sentence's attention on the model's understanding, and on the request.
    divergence: KL(checkpoint || base) of the next token after the first k tokens of each response.
    """
    spec = AnalysisSpec(analysis=analysis, checkpoint=checkpoint, base=base, dataset=dataset, template=template)
    spec.limit, spec.max_tokens = limit, max_tokens
    found = _carried_out(spec)
    if json:
        print_json(found)
        return
    rows = [(each.name, f"{each.value:.4f}", _interval(each), str(each.n)) for each in found.measures]
    print_table((analysis, "mean", "95 %", f"examples ({found.left_out} left out)"), rows, "nothing was found")


def _carried_out(spec: AnalysisSpec) -> Analysis:
    with connected(Settings.from_env()) as clients:
        ask = partial(rpc, clients.trainer.Analyze, AnalyzeRequest(spec=spec))
        run = followed(clients, "trainer", spec.analysis, ask)
        return rpc(clients.trainer.GetAnalysis, GetAnalysisRequest(run=run.id))


def _interval(measure: Measure) -> str:
    return f"[{measure.interval.low:.4f}, {measure.interval.high:.4f}]"
