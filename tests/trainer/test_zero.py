"""ZeRO 0 to 3, with and without offload, in two processes: plain torch's weights, each going on from the one before.

Under ZeRO-3 only the first process ever holds the whole model.
"""

import ctypes
import gc
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lrm_safety.settings import process_env
from services.trainer import engine_worker
from tests.trainer import zero_steps
from tests.trainer.conftest import tiny_llama

TOLERANCE = 2e-6  # of a weight, after 14 steps that move it by up to 3e-3 each


@pytest.mark.long
def test_every_stage_takes_the_steps_of_plain_torch_and_goes_on_from_the_one_before(tmp_path):
    env = {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", zero_steps.__name__]
    command = [sys.executable, *launcher, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=process_env(env), timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"way"')]
    assert [row["steps"] for row in rows] == [2, 4, 6, 8, 10, 12, 14]
    assert not [row for row in rows if row["off"] > TOLERANCE], rows


def resident_bytes() -> int:
    """Without what earlier tests used and the allocator kept, which a new tensor may get."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return 4096 * int(Path("/proc/self/statm").read_text().split()[1])


def test_a_hollow_model_takes_up_no_memory(tmp_path):
    """As processes but the first load it under ZeRO-3. The checkpoint is bf16, so what is loaded is no mapped file."""
    tiny_llama(hidden_size=1024, intermediate_size=4096).to(torch.bfloat16).save_pretrained(tmp_path)
    before = resident_bytes()
    hollow = engine_worker.load_model(tmp_path, is_hollow=True)
    between = resident_bytes()
    whole = engine_worker.load_model(tmp_path)
    size = 4 * whole.num_parameters()
    assert between - before < 0.1 * size < 0.8 * size < resident_bytes() - between
    described = [
        [(name, tensor.shape, tensor.dtype) for name, tensor in model.named_parameters()] for model in (hollow, whole)
    ]
    assert described[0] == described[1]
    assert all(one.equal(other) for one, other in zip(hollow.buffers(), whole.buffers(), strict=True))
