"""What one machine has: this one, read from /proc, or a node of a cluster's pool. No torch needed to know."""

import os
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

# of a container, cgroup v2 and v1
MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_FAST_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}  # the last as ARM spells it


@dataclass(frozen=True)
class Machine:
    """What jobs of one machine share."""

    cpus: int
    memory_gib: float
    gpus: int = 0
    has_fast_bf16: bool = False  # in the processor's own instructions; emulated bf16 is some 70 times slower than fp32
    gpu_hour_price: float = 0.0  # of one GPU, in whatever currency all pools' prices are


def detect(proc: Path = Path("/proc")) -> Machine:
    """This machine; inside a container, what the container may use."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = [Path(path).read_text().strip() for path in MEMORY_LIMITS if Path(path).exists()]
    memory = min([pages, *(int(limit) for limit in limits if limit.isdigit())])
    cpus = len(os.sched_getaffinity(0))
    return Machine(cpus, memory / (1 << 30), len(gpu_ids()), bool(_processor_flags(proc) & _FAST_BF16))


@cache
def gpu_ids() -> tuple[str, ...]:
    """UUIDs of the GPUs, in the form CUDA_VISIBLE_DEVICES takes; none without a driver."""
    command = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(line.strip() for line in listed.splitlines() if line.strip())


def _processor_flags(proc: Path) -> set[str]:
    cpuinfo = proc / "cpuinfo"
    for line in cpuinfo.read_text(errors="replace").splitlines() if cpuinfo.is_file() else []:
        name, _, value = line.partition(":")
        if name.strip().lower() in ("flags", "features"):
            return set(value.split())
    return set()
