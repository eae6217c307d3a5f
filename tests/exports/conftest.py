"""Inspect in an environment of its own, and what it runs there."""

import fcntl
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lrm_safety import export
from lrm_safety.export import MeasuredRun
from tests.exports.measured import measured_run

ROOT = Path(__file__).resolve().parents[2]
INSPECT = "inspect-ai==0.3.285"
SCRIPT = """
import json, sys
from inspect_ai import Task, eval as evaluate
from inspect_ai.dataset import Sample
from inspect_ai.model import ChatMessageAssistant, ContentReasoning, ContentText, ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import includes, match
def output(n):
    content = [ContentReasoning(reasoning="hm"), ContentText(text=str(n % 3))]
    made = ModelOutput.from_message(ChatMessageAssistant(content=content))
    made.usage = ModelUsage(input_tokens=10, output_tokens=5, total_tokens=15)
    return made
task = Task(
    name="sums",
    dataset=[Sample(id=f"s{n}", input=f"{n} plus 0?" + " please" * 50, target=str(n)) for n in range(6)],
    scorer=[includes(), match()],
)
for form in ("eval", "json"):
    model = get_model("mockllm/model", custom_outputs=[output(n) for n in range(6)])
    evaluate(task, model=model, log_dir=f"{sys.argv[2]}/{form}", display="none", log_format=form, max_connections=1)
from inspect_ai.log import list_eval_logs, read_eval_log, read_eval_log_sample_summaries
found = []
for info in list_eval_logs(sys.argv[1]):
    log = read_eval_log(info.name)
    samples = [sample.model_dump(mode="json") for sample in log.samples]
    summaries = len(read_eval_log_sample_summaries(info.name))
    found.append(log.model_dump(mode="json", exclude={"samples"}) | {"samples": samples, "summaries": summaries})
json.dump(found, sys.stdout)
"""


@pytest.fixture(scope="session")
def inspect_python() -> Path:
    """A Python with Inspect in it, made once: it needs a hundred packages that nothing else here needs."""
    folder = ROOT / ".venv-inspect"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:  # test processes share it
        fcntl.flock(lock, fcntl.LOCK_EX)
        _make(folder)
    return folder / "bin" / "python"


def _make(folder: Path) -> None:
    ready = folder / INSPECT
    if not ready.exists():
        uv = str(ROOT / ".venv" / "bin" / "uv") if (ROOT / ".venv" / "bin" / "uv").exists() else "uv"
        if shutil.which(uv) is None:
            pytest.skip("uv is missing: `make setup` installs it")
        subprocess.run([uv, "venv", "-q", "--allow-existing", str(folder)], check=True)
        install = [uv, "pip", "install", "-q", "--python", str(folder / "bin" / "python"), INSPECT]
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"{INSPECT} cannot be had from PyPI: {done.stderr.strip().splitlines()[-1]}")
        ready.touch()


@dataclass(frozen=True)
class Inspected:
    """What one process of Inspect made of a run that we exported, and the logs that it wrote itself."""

    exported: MeasuredRun
    read_back: list[dict[str, Any]]
    written: Path


@pytest.fixture(scope="session")
def inspected(inspect_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Inspected:
    run, ours, theirs = measured_run(), tmp_path_factory.mktemp("ours"), tmp_path_factory.mktemp("theirs")
    export.write(run, "inspect", ours, is_with_text=True)
    command = [str(inspect_python), "-c", SCRIPT, str(ours), str(theirs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return Inspected(run, json.loads(done.stdout.splitlines()[-1]), theirs)
