"""lrm data: datasets of this store."""

from pathlib import Path
from typing import Annotated

import typer

from lrm_safety import recipe as recipes
from lrm_safety.cli._live import LiveStages
from lrm_safety.cli._output import AsJson, console, errors, print_json, print_table
from lrm_safety.cli._services import connected
from lrm_safety.clients import rpc
from lrm_safety.nouns import BuildDatasetRequest, Dataset, GetDatasetRequest, ListDatasetsRequest
from lrm_safety.pipeline import follow
from lrm_safety.settings import Settings


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Build, list and show datasets.")
    group.command("build", epilog="Example: lrm data build recipes/demo.yaml")(build)
    group.command("list", epilog="Example: lrm data list")(list_)
    group.command("show", epilog="Example: lrm data show demo")(show)
    app.add_typer(group, name="data")


def build(
    recipe: Annotated[Path, typer.Argument(help="A recipe, of which `dataset` is enough.")], json: AsJson = False
) -> None:
    """Build a recipe's dataset, and nothing else."""
    request = BuildDatasetRequest(spec=recipes.load_dataset(recipe))
    with connected(Settings.from_env()) as clients:
        with LiveStages() as stages:
            run = follow(
                clients,
                "data",
                lambda: rpc(clients.data.BuildDataset, request),
                lambda seen: stages.stage("build", seen),
            )
        dataset = rpc(clients.data.GetDataset, GetDatasetRequest(dataset=run.result))
    _show(dataset, json)


def list_(json: AsJson = False) -> None:
    """List datasets, newest first."""
    with connected(Settings.from_env()) as clients:
        datasets = rpc(clients.data.ListDatasets, ListDatasetsRequest()).datasets
    if json:
        print_json(datasets)
        return
    rows = [(each.name, each.digest[:12], str(each.examples), f"{each.response_tokens.total:.0f}") for each in datasets]
    print_table(("dataset", "digest", "examples", "tokens"), rows, "no datasets yet; lrm data build RECIPE makes one")


def show(dataset: Annotated[str, typer.Argument(help="name or name@digest")], json: AsJson = False) -> None:
    """Show a dataset: parts, counts, what was dropped and why, token statistics."""
    with connected(Settings.from_env()) as clients:
        _show(rpc(clients.data.GetDataset, GetDatasetRequest(dataset=dataset)), json)


def _show(dataset: Dataset, json: bool) -> None:
    if json:
        print_json(dataset)
        return
    errors.print(f"{dataset.name}@{dataset.digest}", highlight=False, soft_wrap=True)
    rows = [
        (
            part.name,
            str(part.read),
            ", ".join(f"{n} {why}" for why, n in part.dropped.items()),
            str(part.kept),
            part.licence,
        )
        for part in dataset.parts
    ]
    print_table(("part", "read", "dropped", "kept", "licence"), rows, "no parts")
    tokens = dataset.response_tokens
    if tokens.total:
        console.print(
            f"response tokens: mean {tokens.mean:.1f}, p90 {tokens.p90:.0f}, max {tokens.max}", highlight=False
        )
