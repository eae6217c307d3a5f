"""lrm data: datasets of this store."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from lrm_safety import dataset_files
from lrm_safety import recipe as recipes
from lrm_safety.chat import THINKING_MODES
from lrm_safety.cli import _datasets
from lrm_safety.cli._live import followed
from lrm_safety.cli._output import AsJson, console, print_json, print_table
from lrm_safety.cli._services import connected
from lrm_safety.clients import Clients, rpc, rpc_stream
from lrm_safety.errors import InvalidInput
from lrm_safety.jsonl import to_dict
from lrm_safety.nouns import (
    BuildDatasetRequest,
    Dataset,
    DiffDatasetsRequest,
    GetDatasetRequest,
    InspectExampleRequest,
    ListDatasetsRequest,
    ReadExamplesRequest,
)
from lrm_safety.report.datasets import licences
from lrm_safety.settings import Settings

COUNT_S = 1800.0  # for work that reads every example
Name = Annotated[str, typer.Argument(help="name (the newest), or name@digest")]
Tokenizer = Annotated[str, typer.Option(help="A checkpoint whose tokenizer counts; default: the build's.")]
Thinking = Annotated[str, typer.Option(help=f"How thinking is trained: {', '.join(THINKING_MODES)}.")]


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Build datasets and look at them.")
    group.command("build", epilog="Example: lrm data build recipes/demo.yaml --on-bad-row skip")(build)
    group.command("list", epilog="Example: lrm data list")(list_)
    group.command("show", epilog="Example: lrm data show demo --tokenizer smollm2-135m-instruct")(show)
    group.command("diff", epilog="Example: lrm data diff demo@1f3a9c0e demo")(diff)
    group.command("inspect", epilog="Example: lrm data inspect demo decline/harm-drugs-03 --tokens")(inspect)
    group.command("export", epilog="Example: lrm data export demo --to huggingface --out demo")(export)
    app.add_typer(group, name="data")


def build(
    recipe: Annotated[Path, typer.Argument(help="A recipe, or a file with a `dataset` section alone.")],
    on_bad_row: Annotated[
        str, typer.Option(help="fail, or skip: count and list rows that cannot be read; default: as the recipe says.")
    ] = "",
    json: AsJson = False,
) -> None:
    """Build a recipe's dataset, and nothing else."""
    spec = recipes.load_dataset(recipe)
    spec.on_bad_row = on_bad_row or spec.on_bad_row
    with connected(Settings.from_env()) as clients:
        ask = partial(rpc, clients.data.BuildDataset, BuildDatasetRequest(spec=spec))
        run = followed(clients, "data", "build", ask)
        dataset = _find(clients, run.result)
    _show(dataset, json)


def list_(json: AsJson = False) -> None:
    """List datasets, newest first."""
    with connected(Settings.from_env()) as clients:
        datasets = rpc(clients.data.ListDatasets, ListDatasetsRequest()).datasets
    if json:
        print_json(datasets)
        return
    rows = [
        (
            each.name,
            each.digest[:12],
            str(each.examples),
            f"{each.response_tokens.total:.0f}",
            "; ".join(licences(each)),
        )
        for each in datasets
    ]
    heads = ("dataset", "digest", "examples", "tokens", "licence")
    print_table(heads, rows, "no datasets yet; lrm data build RECIPE makes one")


def show(dataset: Name, tokenizer: Tokenizer = "", json: AsJson = False) -> None:
    """Show what a dataset is made of: licences, funnel, shares, lengths, overlap with benchmarks. No texts."""
    with connected(Settings.from_env()) as clients:
        _show(_find(clients, dataset, tokenizer), json)


def diff(before: Name, after: Annotated[str, typer.Argument(help="The later version.")], json: AsJson = False) -> None:
    """Compare two versions: which ids came, went or changed, and how the shares moved. No texts."""
    with connected(Settings.from_env()) as clients:
        old, new = _find(clients, before), _find(clients, after)
        request = DiffDatasetsRequest(before=before, after=after)
        changes = list(rpc_stream(clients.data.DiffDatasets, request, COUNT_S))
    if json:
        print_json({"before": old.digest, "after": new.digest, "changes": [to_dict(each) for each in changes]})
    else:
        _datasets.show_difference(old, new, changes)


def inspect(  # noqa: PLR0913, PLR0917  (a parameter is a flag)
    dataset: Name,
    example: Annotated[str, typer.Argument(metavar="ID", help="Of the one example whose text you want to read.")],
    tokens: Annotated[
        bool, typer.Option("--tokens", help="Token by token, as a training encodes it, with what is trained.")
    ] = False,
    tokenizer: Tokenizer = "",
    thinking: Thinking = "keep",
    template: Annotated[str, typer.Option(help="A family's chat template, such as s1; default: its own.")] = "",
    json: AsJson = False,
) -> None:
    """Read one example, its text included."""
    with connected(Settings.from_env()) as clients:
        if tokens and not tokenizer:
            tokenizer = _find(clients, dataset).spec.tokenizer
            if not tokenizer:
                raise InvalidInput(f"{dataset} was built without a tokenizer; name a checkpoint with --tokenizer")
        request = InspectExampleRequest(dataset=dataset, id=example, thinking=thinking, template=template)
        request.tokenizer = tokenizer if tokens else ""
        seen = rpc(clients.data.InspectExample, request, COUNT_S)
    if json:
        print_json(seen)
    else:
        _datasets.show_example(seen)


def export(
    dataset: Name,
    to: Annotated[str, typer.Option(help="jsonl (messages), parquet or huggingface (a folder for load_dataset).")],
    out: Annotated[Path, typer.Option(help="Folder for the files.")],
    thinking: Thinking = "keep",
    json: AsJson = False,
) -> None:
    """Write a dataset for another trainer. Its texts, harmful requests among them, leave your custody."""
    with connected(Settings.from_env()) as clients:
        found = _find(clients, dataset)
        request = ReadExamplesRequest(dataset=f"{found.name}@{found.digest}")
        examples = rpc_stream(clients.data.ReadExamples, request, COUNT_S)
        paths = dataset_files.write(found, examples, to, out, thinking)
    if json:
        print_json({"dataset": dataset, "to": to, "thinking": thinking, "files": [str(path) for path in paths]})
        return
    for path in paths:
        console.print(str(path), highlight=False, soft_wrap=True)


def _find(clients: Clients, dataset: str, tokenizer: str = "") -> Dataset:
    return rpc(clients.data.GetDataset, GetDatasetRequest(dataset=dataset, tokenizer=tokenizer), COUNT_S)


def _show(dataset: Dataset, json: bool) -> None:
    if json:
        print_json(dataset)
    else:
        _datasets.show(dataset)
