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
from services.trainer.estimate import Shape, estimate, require_fit
from services.trainer.gauge_worker import Gauge, has_gib

log = observe.logger(__name__)


def reckon(shape: Shape, spec: TrainingSpec, precision: str, lengths: Sequence[int] = (0,)) -> dict[str, float]:
    """GiB of each process by what for. Raises InvalidInput when they are not there. `lengths`: of the examples."""
    mean = sum(lengths) / len(lengths)
    largest = max(*lengths, spec.micro_batch_size * mean)  # of the micro-batches, at least
    asked, device = TrainingSpec(), engine_worker.device()
    asked.CopyFrom(spec)
    if device.type == "cpu":
        asked.offload = "none"  # host memory is what there is
    needs = estimate(shape, asked, precision, largest)
    require_fit(needs, has_gib(device, spec), spec)
    return needs


def begin(
    attempt: Attempt, model: torch.nn.Module, precision: str, needs: dict[str, float], encoded: EncodedSet
) -> Gauge:
    """Measures the machine; the first process notes how the run is carried out."""
    spec = attempt.run.spec.training
    gauge = Gauge(model, precision, engine_worker.device())
    if dist.get_rank() == 0:
        configuration = engine_worker.configuration(spec, precision)
        setup = TrainingSetup(
            run=attempt.run.id,
            precision=precision,
            deepspeed_config=json.dumps(configuration),
            estimate_gib=needs,
            peak_tflops=gauge.peak_tflops,
            peak_source=gauge.source,
            examples=len(encoded.examples),
            dropped_too_long=encoded.dropped,
        )
        attempt.ledger.note_setup(setup)
        log.info("training_set_up", run=attempt.run.id, deepspeed=configuration, estimate_gib=needs)
    return gauge
