"""The jobs the trainer asks for: their commands, environments and sizes."""

import os
import sys
from pathlib import Path

from lrm_safety.jobs import JobSpec
from lrm_safety.nouns import TrainingSpec

BYTES_PER_PARAMETER = 24  # fp32 weights, gradients, two moments; bf16 copies; the reload that verifies the result
PROCESS_GIB = 1.5  # interpreter, libraries, activations of a micro-batch


def worker_job(run: str, spec: TrainingSpec, parameters: float, attempt: int) -> JobSpec:
    """A training takes every core there is: on one machine an engine waits for it, or it for the engine."""
    cores = max(os.cpu_count() or 1, spec.processes)
    module = ["services.trainer.worker", run, str(attempt)]
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={spec.processes}"]
    return JobSpec(
        id=job_id(run, attempt),
        command=[sys.executable, *(launcher if spec.processes > 1 else []), "-m", *module],
        env={**_env(cores // spec.processes), **({} if spec.processes > 1 else _alone())},
        cpus=cores,
        memory_gib=round(PROCESS_GIB * spec.processes + BYTES_PER_PARAMETER * parameters / 2**30, 1),
        gpus=spec.processes if _has_gpu() else 0,
    )


def import_job(run: str, attempt: int) -> JobSpec:
    """An import: it holds the weights in fp32 at most twice."""
    command = [sys.executable, "-m", "services.trainer.import_worker", run, str(attempt)]
    return JobSpec(id=job_id(run, attempt), command=command, env=_env(1), cpus=1, memory_gib=3)


def job_id(run: str, attempt: int) -> str:
    return f"{run}-{attempt}"


def _env(threads: int) -> dict[str, str]:
    """What a job needs beyond the settings, which the runner hands to every job."""
    env = {
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    return env if _has_gpu() else {**env, "DS_ACCELERATOR": "cpu"}


def _alone() -> dict[str, str]:
    """What torchrun would say to the only process of a run. Port 0: any free one."""
    return {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "0",
    }


def _has_gpu() -> bool:
    return Path("/dev/nvidia0").exists()
