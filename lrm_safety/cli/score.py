"""lrm score: any judge over a file, without a run and without services."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from lrm_safety.cli._output import AsJson
from lrm_safety.settings import process_env


def add_to(app: typer.Typer) -> None:
    app.command("score", epilog="Example: lrm score --judge refusal --in answers.jsonl --out verdicts.jsonl")(score)


def score(
    judge: Annotated[str, typer.Option(help="See `lrm list judges`.")],
    in_: Annotated[Path, typer.Option("--in", help="JSON lines: {id, prompt, response} or {id, gold, pred}.")],
    out: Annotated[Path, typer.Option(help="The same rows, each with a `verdict`: {label, score, invalid}.")],
    url: Annotated[str, typer.Option(help="For judges that ask a model: an OpenAI-compatible base URL.")] = "",
    model: Annotated[str, typer.Option(help="With --url: the model's name there.")] = "",
    json: AsJson = False,
) -> None:
    """Judge a file. Exit code: 0 done (rows without a verdict are counted), 3 error."""
    command = [sys.executable, "-m", "services.judge.score", "--judge", judge, "--in", str(in_), "--out", str(out)]
    command += ["--endpoint", url] if url else []
    command += ["--model", model] if model else []
    command += ["--json"] if json else []
    code = subprocess.run(command, env=process_env({}), check=False).returncode
    raise typer.Exit(3 if code else 0)
