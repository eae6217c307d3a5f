"""lrm train: a training's curves, speed and set-up; its metrics for other tools."""

import json as json_
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from lrm_safety import jsonl, tracking
from lrm_safety.cli._curves import curve
from lrm_safety.cli._output import AsJson, console, print_json
from lrm_safety.cli._services import connected
from lrm_safety.cli.report import READ_S
from lrm_safety.clients import Clients, rpc, rpc_stream
from lrm_safety.nouns import GetSetupRequest, ReadMetricsRequest, TrainingMetrics, TrainingSetup
from lrm_safety.settings import Settings

RunId = Annotated[str, typer.Argument(help="A training's id, see `lrm runs list --kind training`.")]


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Look at a training.")
    group.command("show", epilog="Example: lrm train show training-0f3a…")(show)
    group.command("export", epilog="Example: lrm train export training-0f3a… --to tensorboard --out logs")(export)
    app.add_typer(group, name="train")


def show(run: RunId, json: AsJson = False) -> None:
    """Show loss and learning rate over the steps, speed and memory, and how DeepSpeed was set up."""
    with connected(Settings.from_env()) as clients:
        setup, rows = rpc(clients.trainer.GetSetup, GetSetupRequest(run=run)), _rows(clients, run)
    if json:
        print_json({"setup": jsonl.to_dict(setup), "metrics": [jsonl.to_dict(row) for row in rows]})
        return
    for line in shown(setup, rows):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def export(
    run: RunId,
    to: Annotated[str, typer.Option(help="tensorboard, wandb or mlflow; see `lrm list trackers`.")],
    out: Annotated[Path, typer.Option(help="Folder for what goes to no server.")] = Path("curves"),
    json: AsJson = False,
) -> None:
    """Write the metrics of every step for another tool; of a training that goes on, ask again for the newer ones."""
    with connected(Settings.from_env()) as clients:
        rows = _rows(clients, run)
    written = tracking.write(run, rows, to, out)
    if json:
        print_json({"run": run, "to": to, "written": written})
    else:
        console.print(written, highlight=False, soft_wrap=True)


def shown(setup: TrainingSetup, rows: Sequence[TrainingMetrics]) -> list[str]:
    """The lines of `lrm train show`."""
    estimate = ", ".join(f"{name} {size:.2f}" for name, size in sorted(setup.estimate_gib.items()))
    checkpointed = ", with gradient checkpointing" if setup.gradient_checkpointing else ""
    lines = [
        f"{setup.run}: {setup.precision}; all devices together {setup.peak_tflops:.3g} TFLOPS ({setup.peak_source})",
        f"memory of a process, at least: {estimate} GiB{checkpointed}",
        f"kernels: {setup.kernels or 'plain'} ({_tried(setup)})",
        f"examples: {setup.examples:,} trained, {setup.dropped_too_long:,} dropped: longer than max_tokens",
    ]
    if rows:
        last = rows[-1]
        lines += [
            f"step {last.step}, epoch {last.epoch:.2f}: loss {last.loss:.4f}, accuracy {last.token_accuracy:.1%}, "
            f"gradient {last.grad_norm:.3g}, {last.tokens_per_s:,.0f} tokens/s, MFU {last.mfu:.1%}, "
            f"{last.memory_gib:.2f} GiB",
            "",
            f"loss, steps {rows[0].step} to {last.step}",
            *curve([row.loss for row in rows]),
            "",
            "learning rate",
            *curve([row.learning_rate for row in rows]),
        ]
    return [*lines, "", f"DeepSpeed: {json_.dumps(json_.loads(setup.deepspeed_config), indent=2)}"]


def _tried(setup: TrainingSetup) -> str:
    times = ", ".join(f"{name} {seconds:.3g} s" for name, seconds in sorted(setup.step_s.items()))
    return f"a step tried: {times}" if times else "no other tried"


def _rows(clients: Clients, run: str) -> list[TrainingMetrics]:
    return list(rpc_stream(clients.trainer.ReadMetrics, ReadMetricsRequest(run=run), READ_S))
