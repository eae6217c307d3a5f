"""MFU counts what is trained, wherever it lies at the moment."""

import pytest
import torch
import torch.distributed as dist

from lrm_safety.nouns import TrainingMetrics
from services.trainer.gauge_worker import Gauge


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    monkeypatch.setattr(dist, "barrier", lambda: None)
    monkeypatch.setattr(dist, "all_reduce", lambda tensor: None)


def flops(model: torch.nn.Module) -> float:
    """Of a token."""
    gauge = Gauge(model, "fp32", torch.device("cpu"))
    gauge.peak_tflops = 1e-12
    return gauge.read(TrainingMetrics(tokens_per_s=1)).mfu


def test_what_zero_3_has_put_away_is_counted():
    model = torch.nn.Sequential(torch.nn.Linear(4, 3, bias=False), torch.nn.Linear(3, 2, bias=False))
    model[1].requires_grad_(False)
    away = model[0].weight
    away.ds_numel, away.data = away.numel(), torch.empty(0)
    assert flops(model) == pytest.approx(6 * 12 + 4 * 6)


def test_an_embedding_counts_where_it_is_the_head_too():
    model = torch.nn.Sequential(torch.nn.Embedding(5, 3), torch.nn.Linear(3, 5, bias=False))
    assert flops(model) == pytest.approx(6 * 15)
    model[0].weight = model[1].weight
    assert flops(model) == pytest.approx(6 * 15)
