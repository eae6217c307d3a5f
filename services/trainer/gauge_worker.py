"""What the devices can do and what a training makes of it: peak rate, share of it that is reached (MFU), memory.

MFU = (4 x parameters + 2 x trained parameters) x tokens/s over the peak; 6 x parameters where all are trained. The peak
of a GPU is its published dense bf16 rate; of a CPU, and in fp32, the rate of a large matrix product measured at the
start, by all processes at once.
"""

import resource
import time

import torch
import torch.distributed as dist

from lrm_safety.jobs.machine import detect
from lrm_safety.nouns import TrainingMetrics, TrainingSpec

GIB = 2**30
PUBLISHED_TFLOPS = {  # bf16, dense, by a part of the device's name; the first that fits
    "H100 PCIe": 756,
    "H100 NVL": 835,
    "H100": 989,
    "H200": 989,
    "B200": 2250,
    "A100": 312,
    "L40S": 362,
    "L40": 181,
    "L4": 121,
    "A10G": 70,
    "A10": 125,
}
SIDES = {"cpu": 1024, "cuda": 8192}  # large enough that starting it costs nothing
MEASURED_S = 0.3


class Gauge:
    def __init__(self, model: torch.nn.Module, precision: str, device: torch.device) -> None:
        """Measures, together with all processes."""
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)  # what was shown and tried before is not the training's
        tables = _tables(model)
        sizes = [(_size(each), each.requires_grad) for each in model.parameters() if id(each) not in tables]
        self._flops_per_token = 4.0 * sum(size for size, _ in sizes) + 2.0 * sum(size for size, grad in sizes if grad)
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
        published = next((rate for part, rate in PUBLISHED_TFLOPS.items() if part in name), 0)
        is_known = bool(published and precision == "bf16")
        self.source = (
            f"published for {name}" if is_known else f"a {SIDES[device.type]}³ product in {precision}, measured"
        )
        dist.barrier()
        one = float(published) if is_known else _measured_tflops(precision, device)
        peak = torch.tensor([one], device=device)
        dist.all_reduce(peak)
        self.peak_tflops = float(peak)

    def read(self, row: TrainingMetrics) -> TrainingMetrics:
        """The row with what its speed means; memory is this process's."""
        row.mfu = self._flops_per_token * row.tokens_per_s / (self.peak_tflops * 1e12)
        row.memory_gib = peak_memory_gib(self._device)
        return row


def has_gib(device: torch.device, spec: TrainingSpec) -> float:
    """Memory for each process: of its GPU, else its share of the machine."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / GIB
    return detect().memory_gib / (spec.processes // spec.nodes)


def peak_memory_gib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB


def _tables(model: torch.nn.Module) -> set[int]:
    """Ids of embeddings that only look up: nothing multiplies by them, as it does by those that are the head, too."""
    found: dict[bool, set[int]] = {True: set(), False: set()}
    for module in model.modules():
        looks_up = isinstance(module, torch.nn.Embedding)
        found[looks_up] |= {id(each) for each in module.parameters(recurse=False)}
    return found[True] - found[False]


def _size(parameter: torch.nn.Parameter) -> int:
    """Under ZeRO-3 a parameter is empty between its uses, and knows how large it is."""
    return int(getattr(parameter, "ds_numel", parameter.numel()))


def _measured_tflops(precision: str, device: torch.device) -> float:
    """The best of the products that fit into MEASURED_S."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    side = SIDES[device.type]
    left = torch.ones(side, side, dtype=dtype, device=device)
    best, deadline = float("inf"), time.perf_counter() + MEASURED_S
    while best == float("inf") or time.perf_counter() < deadline:
        started = time.perf_counter()
        product = left @ left
        float(product[0, 0])  # waits for the device
        best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best / 1e12
