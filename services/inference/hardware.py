"""What this machine can run an engine on, read from /proc: no torch needed."""

import os
from dataclasses import dataclass
from pathlib import Path

_FAST_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}  # the last as ARM spells it


@dataclass(frozen=True)
class Hardware:
    cpus: int
    gpus: int
    has_fast_bf16: bool  # in the processor's own instructions; emulated bf16 is some 70 times slower than fp32


def detect(proc: Path = Path("/proc")) -> Hardware:
    """Processors this process may use, NVIDIA GPUs with a driver, bf16 on the processor."""
    flags: set[str] = set()
    cpuinfo = proc / "cpuinfo"
    for line in cpuinfo.read_text(errors="replace").splitlines() if cpuinfo.is_file() else []:
        name, _, value = line.partition(":")
        if name.strip().lower() in ("flags", "features"):
            flags = set(value.split())
            break
    gpus = sum(1 for _ in (proc / "driver/nvidia/gpus").glob("*"))
    return Hardware(len(os.sched_getaffinity(0)), gpus, bool(flags & _FAST_BF16))
