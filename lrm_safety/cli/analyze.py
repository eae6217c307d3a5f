"""lrm analyze: look inside a model: what it attends to, how far it is from another, token by token."""

from typing import Annotated

import typer

from lrm_safety.cli._live import LiveStages
from lrm_safety.cli._output import AsJson, print_json, print_table
from lrm_safety.cli._services import connected
from lrm_safety.clients import rpc
from lrm_safety.nouns import AnalysisSpec, AnalyzeRequest, GetAnalysisRequest, Measure
from lrm_safety.pipeline import follow
from lrm_safety.settings import Settings

Model = Annotated[str, typer.Argument(metavar="CHECKPOINT", help="name or name@digest.")]
Rows = Annotated[str, typer.Option(help="Its examples are read: name or name@digest.")]
Limit = Annotated[int, typer.Option(help="So many of them, drawn at random; 0 = all.")]
MaxTokens = Annotated[int, typer.Option(help="Longer examples are left out.")]
Template = Annotated[str, typer.Option(help="Chat template by name; default the checkpoint's own.")]


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Look inside a model.")
    group.command("attention", epilog="Example: lrm analyze attention safekey --dataset safekey")(attention)
    group.command("divergence", epilog="Example: lrm analyze divergence tuned --base r1 --dataset star1")(divergence)
    app.add_typer(group, name="analyze")


def attention(
    checkpoint: Model,
    dataset: Rows,
    limit: Limit = 0,
    max_tokens: MaxTokens = 2048,
    template: Template = "",
    json: AsJson = False,
) -> None:
    """Share of the key sentence's attention on the model's understanding, and on the request (SafeKey's study)."""
    spec = AnalysisSpec(analysis="attention", checkpoint=checkpoint, dataset=dataset, template=template)
    spec.limit, spec.max_tokens = limit, max_tokens
    _analyze(spec, json)


def divergence(  # noqa: PLR0913, PLR0917  (a parameter is a flag)
    checkpoint: Model,
    base: Annotated[str, typer.Option(help="The checkpoint it is compared with.")],
    dataset: Rows,
    limit: Limit = 0,
    max_tokens: MaxTokens = 2048,
    template: Template = "",
    json: AsJson = False,
) -> None:
    """KL(checkpoint || base) of the next token after the first k tokens of each response (SafeKey's study)."""
    spec = AnalysisSpec(analysis="divergence", checkpoint=checkpoint, base=base, dataset=dataset, template=template)
    spec.limit, spec.max_tokens = limit, max_tokens
    _analyze(spec, json)


def _analyze(spec: AnalysisSpec, json: bool) -> None:
    with connected(Settings.from_env()) as clients:
        with LiveStages() as stages:
            run = follow(
                clients,
                "trainer",
                lambda: rpc(clients.trainer.Analyze, AnalyzeRequest(spec=spec)),
                lambda seen: stages.stage(spec.analysis, seen),
            )
        found = rpc(clients.trainer.GetAnalysis, GetAnalysisRequest(run=run.id))
    if json:
        print_json(found)
        return
    rows = [(each.name, f"{each.value:.4f}", _interval(each), str(each.n)) for each in found.measures]
    columns = (spec.analysis, "mean", "95 %", f"examples ({found.left_out} left out)")
    print_table(columns, rows, "nothing was found")


def _interval(measure: Measure) -> str:
    return f"[{measure.interval.low:.4f}, {measure.interval.high:.4f}]"
