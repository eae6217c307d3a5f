"""What a training makes sure of and writes down before its first step: that it fits, how it is carried out."""

import json
from collections.abc import Sequence

import torch
import torch.distributed as dist

from lrm_safety import observe
from lrm_safety.nouns import TrainingSetup, TrainingSpec
from services.trainer import engine_worker
from services.trainer.attempt import Attempt
from services.trainer.encoding import EncodedSet
from services.trainer.estimate import Shape, fit
from services.trainer.gauge_worker import Gauge, has_gib
from services.trainer.kernels_worker import Trial

log = observe.logger(__name__)


def reckon(
    shape: Shape, spec: TrainingSpec, precision: str, lengths: Sequence[int] = (0,)
) -> tuple[TrainingSpec, dict[str, float]]:
    """(the spec as it is carried out; GiB of each process by what for). `lengths`: of the examples.

    Gradients are checkpointed, by all processes alike, where it fits only so. Raises InvalidInput when it never fits.
    """
    mean = sum(lengths) / len(lengths)
    largest = max(*lengths, spec.micro_batch_size * mean)  # of the micro-batches, at least
    asked, device = TrainingSpec(), engine_worker.device()
    asked.CopyFrom(spec)
    if device.type == "cpu":
        asked.offload = "none"  # host memory is what there is
    is_checkpointed, needs = fit(shape, asked, precision, largest, has_gib(device, spec))
    somewhere = torch.tensor([float(is_checkpointed)], device=device)
    dist.all_reduce(somewhere, dist.ReduceOp.MAX)
    settled = TrainingSpec()
    settled.CopyFrom(spec)
    settled.precision, settled.gradient_checkpointing = precision, bool(somewhere)
    return settled, needs


def begin(
    attempt: Attempt,
    model: torch.nn.Module,
    spec: TrainingSpec,
    needs: dict[str, float],
    trial: Trial,
    encoded: EncodedSet,
) -> Gauge:
    """Measures the machine; the first process notes how the run is carried out, which is what `spec` says."""
    gauge = Gauge(model, spec.precision, engine_worker.device())
    attempt.ledger.facts["gradient_checkpointing"] = float(spec.gradient_checkpointing)
    if dist.get_rank() == 0:
        configuration = engine_worker.configuration(spec, spec.precision)
        setup = TrainingSetup(
            run=attempt.run.id,
            precision=spec.precision,
            gradient_checkpointing=spec.gradient_checkpointing,
            deepspeed_config=json.dumps(configuration),
            estimate_gib=needs,
            peak_tflops=gauge.peak_tflops,
            peak_source=gauge.source,
            kernels=trial.kernels,
            step_s=trial.step_s,
            examples=len(encoded.examples),
            dropped_too_long=encoded.dropped,
        )
        attempt.ledger.note_setup(setup)
        log.info(
            "training_set_up",
            run=attempt.run.id,
            deepspeed=configuration,
            estimate_gib=needs,
            gradient_checkpointing=spec.gradient_checkpointing,
        )
    return gauge
