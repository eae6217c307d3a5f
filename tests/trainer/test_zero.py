"""ZeRO 0 to 3, with and without offload, in two processes: plain torch's weights, each going on from the one before."""

import json
import subprocess
import sys

import pytest

from lrm_safety.settings import process_env
from tests.trainer import zero_steps

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
