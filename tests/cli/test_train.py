"""lrm train: what a person sees of a training, and what TensorBoard reads of it."""

import json
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from lrm_safety import tracking
from lrm_safety.cli import app, train
from lrm_safety.cli._curves import HEIGHT, curve
from lrm_safety.errors import InvalidInput, NotFound
from lrm_safety.nouns import TrainingMetrics, TrainingSetup

SETUP = TrainingSetup(
    run="training-1",
    precision="fp32",
    deepspeed_config='{"zero_optimization": {"stage": 2}}',
    estimate_gib={"weights": 0.5, "optimizer": 1.0},
    gradient_checkpointing=True,
    peak_tflops=0.08,
    peak_source="a 1024³ product in fp32, measured",
    kernels="liger",
    step_s={"plain": 0.25, "liger": 0.2},
    examples=900,
    dropped_too_long=100,
)
ROWS = [
    TrainingMetrics(
        step=step, epoch=step / 50, loss=4 / step, learning_rate=1e-5, tokens_per_s=100, mfu=0.25, terms={"sft": 1.5}
    )
    for step in range(1, 101)
]


class Call(list):
    """The stream of ReadMetrics."""

    def __init__(self):
        super().__init__(ROWS)

    def cancel(self):
        pass


@pytest.fixture
def lrm(monkeypatch):
    @contextmanager
    def connected(settings):
        trainer = SimpleNamespace(GetSetup=lambda request, timeout: SETUP, ReadMetrics=lambda request, timeout: Call())
        yield SimpleNamespace(trainer=trainer)

    monkeypatch.setattr(train, "connected", connected)
    return lambda *words: CliRunner().invoke(app, ["train", *words])


def test_show(lrm):
    text = lrm("show", "training-1").output
    assert "fp32; all devices together 0.08 TFLOPS" in text
    assert "optimizer 1.00, weights 0.50 GiB, with gradient checkpointing" in text
    assert "900 trained, 100 dropped: longer than max_tokens" in text
    assert "step 100, epoch 2.00: loss 0.0400" in text and "MFU 25.0%" in text
    assert "kernels: liger (a step tried: liger 0.2 s, plain 0.25 s)" in text
    assert '"stage": 2' in text
    both = json.loads(lrm("show", "training-1", "--json").output)
    assert len(both["metrics"]) == 100 and both["setup"]["precision"] == "fp32"


def test_a_curve_falls_from_its_highest_to_its_lowest_value():
    lines = curve([row.loss for row in ROWS])
    assert len(lines) == HEIGHT
    assert lines[0].startswith("█ ") and lines[0].endswith(" 4")
    assert lines[-1].startswith("█") and lines[-1].endswith("▁ 0.0402")
    assert curve([1.0, 1.0])[-1] == "▁▁ 1"
    assert curve([float("nan")]) == ["(no finite value)"]


def test_tensorboard_reads_every_step(lrm, tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for _ in range(2):  # a second export replaces the first
        assert lrm("export", "training-1", "--to", "tensorboard", "--out", str(tmp_path)).exit_code == 0
        found = reader.EventAccumulator(str(tmp_path / "training-1")).Reload()
        losses = found.Scalars("loss")
        assert [event.step for event in losses] == list(range(1, 101))
        assert [event.value for event in losses] == pytest.approx([row.loss for row in ROWS])
        assert {"learning_rate", "mfu", "terms/sft"} <= set(found.Tags()["scalars"])


def test_what_cannot_be_exported(tmp_path, monkeypatch):
    with pytest.raises(NotFound, match="has logged no step yet"):
        tracking.write("training-1", [], "tensorboard", tmp_path)
    with pytest.raises(NotFound, match="tensorboard"):
        tracking.write("training-1", ROWS, "abacus", tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "tensorboard.compat.proto.event_pb2", None)
    with pytest.raises(InvalidInput, match=r"pip install 'lrm-safety\[tensorboard\]'"):
        tracking.write("training-1", ROWS, "tensorboard", tmp_path)
