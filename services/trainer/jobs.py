"""The jobs the trainer asks for: their commands, environments and sizes."""

from lrm_safety.jobs import PYTHON, JobSpec
from lrm_safety.jobs.machine import Machine
from lrm_safety.nouns import Run, TrainingSpec

BYTES_PER_PARAMETER = 28  # fp32 weights, gradients, two moments; the copy of all but gradients that is being saved
BESIDE_GPUS = 16  # where all of that is on GPUs: the copy that is being saved, and what a process loads and reads back
WHOLE = 8  # on the first node, however many there are: the weights as they are loaded; in the end saved, and read back
LORA_BYTES_PER_PARAMETER = 12  # fp32 weights; in the end the merged copy that is saved, and the one that is read back
STOPS_IN_S = 86400  # torchrun's patience with processes that save before they end, else 30 s; the runner's grace counts
PROCESS_GIB = 1.5  # interpreter, libraries, activations of a micro-batch


def worker_job(run: Run, parameters: float, attempt: int, machine: Machine) -> JobSpec:
    """A training takes every core of its nodes: on one machine an engine waits for it, or it for the engine."""
    spec = run.spec.training
    processes = spec.processes // spec.nodes  # of each node
    cores = max(machine.cpus, processes)
    launcher = [] if spec.processes == 1 else ["-m", "torch.distributed.run", *_rendezvous(spec)]
    return JobSpec(
        id=job_id(run.id, attempt),
        command=[PYTHON, *launcher, "-m", "services.trainer.worker", run.id, str(attempt)],
        env={**_env(cores // processes, machine), **(_alone() if spec.processes == 1 else {})},
        cpus=cores,
        memory_gib=round(PROCESS_GIB * processes + _bytes_per_parameter(spec, machine) * parameters / 2**30, 1),
        gpus=processes if machine.gpus else 0,
        nodes=spec.nodes,
        node_pool=spec.node_pool,
        kind="training",
        run=run.id,
        team=run.tenant.team,
        cost_centre=run.tenant.cost_centre,
        priority=run.tenant.priority or "normal",
    )


def import_job(run: Run, memory_gib: float, attempt: int, machine: Machine) -> JobSpec:
    """An import; see weighing.py for its memory."""
    return JobSpec(
        id=job_id(run.id, attempt),
        command=[PYTHON, "-m", "services.trainer.import_worker", run.id, str(attempt)],
        env=_env(1, machine),
        cpus=1,
        memory_gib=memory_gib,
        kind="import",
        run=run.id,
        team=run.tenant.team,
        cost_centre=run.tenant.cost_centre,
        priority=run.tenant.priority or "normal",
    )


def analysis_job(run: Run, parameters: float, attempt: int, machine: Machine) -> JobSpec:
    """An analysis reads one model or two, in one process."""
    return JobSpec(
        id=job_id(run.id, attempt),
        command=[PYTHON, "-m", "services.trainer.analyze_worker", run.id, str(attempt)],
        env=_env(machine.cpus, machine),
        cpus=machine.cpus,
        memory_gib=round(PROCESS_GIB + 2 * 4 * parameters / 2**30, 1),
        gpus=min(1, machine.gpus),
        kind="analysis",
        run=run.id,
        team=run.tenant.team,
        cost_centre=run.tenant.cost_centre,
        priority=run.tenant.priority or "normal",
    )


def job_id(run: str, attempt: int) -> str:
    return f"{run}-{attempt}"


def _bytes_per_parameter(spec: TrainingSpec, machine: Machine) -> float:
    """In each node's memory.

    LoRA's updates take 16 bytes each: rank / 32 of a parameter in matrices of 1024 x 1024, less in larger ones.
    """
    most: float = BESIDE_GPUS if machine.gpus and spec.offload == "none" else BYTES_PER_PARAMETER
    if spec.HasField("lora"):
        most = min(most, LORA_BYTES_PER_PARAMETER + spec.lora.rank / 32)
    return max(WHOLE, most / spec.nodes)


def _rendezvous(spec: TrainingSpec) -> list[str]:
    """Arguments of torchrun; what is in $() is known on each node."""
    patience = f"--shutdown-timeout={STOPS_IN_S}"
    if spec.nodes == 1:
        return [patience, "--standalone", f"--nproc-per-node={spec.processes}"]
    return [
        patience,
        f"--nnodes={spec.nodes}",
        f"--nproc-per-node={spec.processes // spec.nodes}",
        "--node-rank=$(NODE_RANK)",
        "--master-addr=$(MASTER_ADDR)",
        "--master-port=$(MASTER_PORT)",
    ]


def _env(threads: int, machine: Machine) -> dict[str, str]:
    """What a job needs beyond the settings, which the runner hands to every job."""
    env = {
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    return env if machine.gpus else {**env, "DS_ACCELERATOR": "cpu"}


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
