"""Run by test_zero.py in two processes: every ZeRO stage against plain torch, each going on from the one before.

Prints a line of JSON for each way: its name, the steps done, and the largest difference of any weight.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from lrm_safety.nouns import TrainingSpec
from lrm_safety.store.files import FileStore
from services.trainer import engine_worker
from services.trainer.resume import ResumePoints
from services.trainer.resume_worker import Saved, Saver
from tests.trainer.conftest import tiny_llama

WAYS = [(0, "none"), (1, "none"), (2, "none"), (3, "none"), (2, "optimizer"), (3, "parameters"), (0, "none")]
STEPS = 2  # of each way


class Plain(torch.nn.Module):
    """A model whose forward is its loss."""

    def __init__(self) -> None:
        super().__init__()
        odd = {"vocab_size": 101, "hidden_size": 36, "intermediate_size": 51}  # shares that do not come out even
        self.model = tiny_llama(**odd, num_attention_heads=3, num_key_value_heads=3)
        self.was_moved = False

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=ids, labels=ids).loss

    def to(self, *args: Any, **kwargs: Any) -> "Plain":
        """Notes that the engine has put the whole model on its device."""
        self.was_moved = True
        return super().to(*args, **kwargs)


def spec(stage: int, offload: str) -> TrainingSpec:
    return TrainingSpec(
        learning_rate=3e-3,
        batch_size=4,
        micro_batch_size=2,
        weight_decay=0.1,
        max_grad_norm=0.5,
        adam_beta2=0.95,
        zero_stage=stage,
        offload=offload,
        processes=2,
        nodes=1,
    )


def batch(step: int) -> torch.Tensor:
    return torch.randint(0, 101, (4, 17), generator=torch.Generator().manual_seed(step))


def plainly(steps: int) -> dict[str, torch.Tensor]:
    """The weights after so many steps of torch alone, in one process."""
    plain = Plain()
    decayed = [parameter for parameter in plain.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in plain.parameters() if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=3e-3, betas=(0.9, 0.95))
    for step in range(steps):
        plain(batch(step)).backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
    return dict(plain.named_parameters())


def main(folder: Path) -> None:
    engine_worker.join_processes()
    waits = dist.group.WORLD._get_backend(torch.device("cpu")).options._timeout
    assert waits == engine_worker.ALONE, f"the others wait only {waits} for what one process does alone"
    points = ResumePoints(FileStore(folder / "store"), "training-1", 1)
    done = 0
    for number, (stage, offload) in enumerate(WAYS):
        saved = None
        if done:
            here = folder / f"{number}-{dist.get_rank()}"
            saved = Saved(points.download(points.newest(), here))
        engine = engine_worker.make_engine(Plain(), spec(stage, offload), "fp32", saved)
        assert engine.module.was_moved == (stage < 3), "under ZeRO-3 no device has room for the whole model"
        for step in range(done, done + STEPS):
            engine.backward(engine(batch(step).chunk(2)[dist.get_rank()]))
            engine.step()
        done += STEPS
        saver = Saver(engine, points, keep=1)
        saver.save(done)
        saver.settle()
        dist.barrier()
        compare(engine, stage, offload, done)
        engine.destroy()


def compare(engine: object, stage: int, offload: str, done: int) -> None:
    found = engine_worker.host_state(engine.module, torch.float32)
    if dist.get_rank() == 0:
        expected = plainly(done)
        off = max(float((found[name] - expected[name].detach()).abs().max()) for name in expected)
        row = {"way": f"zero {stage}, offload {offload}", "steps": done, "off": off}
        sys.stdout.write(json.dumps(row) + "\n")
    dist.barrier()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
