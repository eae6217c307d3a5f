"""MFU counts what is trained, wherever it lies at the moment."""

import pytest
import torch
import torch.distributed as dist

from lrm_safety.nouns import TrainingMetrics
from services.trainer.gauge_worker import Gauge


def test_what_zero_3_has_put_away_is_counted(monkeypatch):
    monkeypatch.setattr(dist, "barrier", lambda: None)
    monkeypatch.setattr(dist, "all_reduce", lambda tensor: None)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3, bias=False), torch.nn.Linear(3, 2, bias=False))
    model[1].requires_grad_(False)
    away = model[0].weight
    away.ds_numel, away.data = away.numel(), torch.empty(0)
    gauge = Gauge(model, "fp32", torch.device("cpu"))
    gauge.peak_tflops = 1e-12
    row = gauge.read(TrainingMetrics(tokens_per_s=1))
    assert row.mfu == pytest.approx(6 * 12 + 4 * 6)
