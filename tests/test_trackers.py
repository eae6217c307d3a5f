"""W&B and MLflow get every step once; a server that is away is an error of the export, in time."""

import json
from pathlib import Path

import pytest

from lrm_safety import tracking
from lrm_safety.errors import InvalidInput, Unavailable
from lrm_safety.nouns import TrainingMetrics

ROWS = [TrainingMetrics(step=step, epoch=step / 50, loss=4 / step, terms={"sft": 1.5}) for step in range(1, 101)]
NOBODY = "http://127.0.0.1:9"
BLOCK = 32768


@pytest.fixture(autouse=True)
def _no_settings_of_the_tools(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_PROJECT", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))  # and nobody's login
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.fixture
def wandb(monkeypatch):
    """With settings and a service process of this test alone."""
    wandb = pytest.importorskip("wandb")
    yield wandb
    wandb.teardown()


def test_wandb_keeps_an_offline_run(wandb, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    for _ in range(2):  # a second export replaces the first
        folder = Path(tracking.write("training-1", ROWS, "wandb", tmp_path))
    assert list(tmp_path.glob("wandb/offline-run-*")) == [folder]
    wandb.teardown()  # as at the end of a process: the file is whole
    (file,) = folder.glob("*.wandb")
    records = list(read_records(file.read_bytes()))
    (run,) = (record.run for record in records if record.HasField("run"))
    assert (run.run_id, run.project, run.host) == ("training-1", "lrm-safety", "-")
    steps = [record.history for record in records if record.HasField("history")]
    values = [{".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in s.item} for s in steps]
    assert [row["_step"] for row in values] == list(range(1, 101))
    assert [row["loss"] for row in values] == pytest.approx([row.loss for row in ROWS])
    assert values[0]["terms/sft"] == 1.5
    assert not any(path.is_file() for path in (folder / "files").rglob("*"))  # numbers alone


def test_wandb_is_away(wandb, tmp_path, monkeypatch):
    monkeypatch.setattr("lrm_safety.trackers.wandb.INIT_S", 2.0)
    with pytest.raises(InvalidInput, match="WANDB_API_KEY"):
        tracking.write("training-1", ROWS, "wandb", tmp_path)
    wandb.teardown()
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", NOBODY)
    with pytest.raises(Unavailable, match="ask again later"):
        tracking.write("training-1", ROWS, "wandb", tmp_path)


def test_mlflow_gets_what_it_does_not_have(tmp_path):
    mlflow = pytest.importorskip("mlflow")
    for count in (40, 100):
        place = tracking.write("training-1", ROWS[:count], "mlflow", tmp_path)
    client = mlflow.MlflowClient(tracking_uri=place)
    (run,) = client.search_runs([client.get_experiment_by_name("lrm-safety").experiment_id])
    assert (run.info.run_name, run.info.status) == ("training-1", "FINISHED")
    losses = client.get_metric_history(run.info.run_id, "loss")
    assert [point.step for point in losses] == list(range(1, 101))
    assert [point.value for point in losses] == pytest.approx([row.loss for row in ROWS])
    assert client.get_metric_history(run.info.run_id, "terms/sft")[99].value == 1.5


def test_mlflow_is_away(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOBODY)
    with pytest.raises(Unavailable, match="ask again later"):
        tracking.write("training-1", ROWS, "mlflow", tmp_path)


def read_records(data):
    """W&B's own records from a LevelDB log: blocks of pieces, each with checksum, length and kind (1 whole, 4 last)."""
    from wandb.proto.wandb_internal_pb2 import Record

    at, pieces = 7, []  # behind the file's header
    while at + 7 <= len(data):
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        pieces.append(data[at + 7 : at + 7 + length])
        at += 7 + length
        if kind in (1, 4):
            yield Record.FromString(b"".join(pieces))
            pieces = []
        if BLOCK - at % BLOCK < 7:
            at += BLOCK - at % BLOCK
