"""How fast is our training against TRL's SFTTrainer, and how near to what the machine multiplies at?

    .venv/bin/python -m benchmarks.training FOLDER [--data STAR-1.json.gz] [--mix star1|lss] [--repeats 3]

FOLDER holds a model (fp32, on CPU). Three contestants, each a process of its own that waits for its turn, take the same
optimizer steps in turn: ours; TRL as LRM-Safety-Study sets it (two examples a batch, padded, and TRL's default of
gradient checkpointing); TRL with its packing. Two mixes: rows of STAR-1 (without --data: sums of a like length), and
short safety rows among long maths rows. On a busy machine, seconds of processor time are what to compare.
"""

import argparse
import gzip
import json
import multiprocessing
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from lrm_safety.chat import target_text
from lrm_safety.nouns import Example, TrainingSpec

ROWS = {"star1": 8, "lss": 12}
PAIR = 2  # examples a batch in LRM-Safety-Study's script
LONGEST = 1024
GEMM = 1024  # rows and columns of the matrices whose product is the measure


@dataclass
class Leg:
    """One optimizer step of one contestant."""

    wall_s: float
    cpu_s: float  # of all threads
    peak_gib: float
    gemm_gflops: float = 0.0  # a second of processor time, just before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--mix", choices=ROWS, help="only this one")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    os.environ.update({"OMP_NUM_THREADS": str(os.cpu_count()), "OMP_WAIT_POLICY": "PASSIVE"})
    for mix, rows in (("star1", star1_rows(options.data)), ("lss", lss_rows())):
        if options.mix in (None, mix):
            compare(mix, rows, options.folder, options.repeats)


def compare(mix: str, rows: list[Example], folder: Path, repeats: int) -> None:
    context = multiprocessing.get_context("spawn")
    contestants: dict[str, tuple[Any, Connection]] = {}
    for name, work in (("ours", ours), ("trl", trl), ("trl packed", trl_packed)):
        here, there = context.Pipe()
        process = context.Process(target=work, args=(rows, folder, repeats, there), daemon=True)
        process.start()
        contestants[name] = process, here
        contestants[name][1].recv()  # ready
    tokens, flops = count(rows, folder)
    print(f"{mix}: {len(rows)} rows, {tokens} tokens", flush=True)
    legs: dict[str, list[Leg]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, (_, pipe) in contestants.items():
            pipe.send("go")
            legs[name].append(pipe.recv())
            print(f"  {name}: {legs[name][-1]}", flush=True)
    for process, _ in contestants.values():
        process.join()
    table(legs, tokens, flops)


def table(legs: dict[str, list[Leg]], tokens: int, flops: float) -> None:
    print("| contestant | tokens/s | tokens per s of processor time | ours is faster by (each repeat) | peak GiB |")
    print("|---|---|---|---|---|")
    for name, found in legs.items():
        ratios = [other.cpu_s / mine.cpu_s for other, mine in zip(found, legs["ours"], strict=True)]
        wall, cpu = (statistics.median(tokens / getattr(leg, kind) for leg in found) for kind in ("wall_s", "cpu_s"))
        shown = f"{statistics.median(ratios):.2f} ({', '.join(f'{ratio:.2f}' for ratio in ratios)})"
        print(f"| {name} | {wall:.1f} | {cpu:.1f} | {shown} | {max(leg.peak_gib for leg in found):.2f} |")
    shares = [flops / leg.cpu_s / 1e9 / leg.gemm_gflops for leg in legs["ours"]]
    print(f"share of the rate of a {GEMM}³ product: {statistics.median(shares):.0%}", flush=True)


def ours(rows: list[Example], folder: Path, repeats: int, pipe: Connection) -> None:
    """The worker's own parts: encoder, plan, proof, engine, steps."""
    alone = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    os.environ.update({**alone, "DS_ACCELERATOR": "cpu"})
    import torch

    from services.trainer import engine_worker, limits, method, proof_worker
    from services.trainer.encoding import encode_all
    from services.trainer.plan import Plan
    from services.trainer.step_worker import Stepper

    asked = TrainingSpec(name="a", base="b", dataset="c", precision="fp32", epochs=repeats, learning_rate=5e-6)
    asked.batch_size, asked.micro_batch_size, asked.max_tokens = len(rows), PAIR, LONGEST
    spec = limits.resolve(asked)
    engine_worker.join_processes()
    examples, model = encode_all(rows, folder, spec).examples, engine_worker.load_model(folder)
    way, objective = proof_worker.choose_way(model, examples, "fp32"), method.load("sft", {})
    engine = engine_worker.make_engine(engine_worker.Trained(model, objective, way, spec), spec, "fp32")
    stepper = Stepper(engine, objective, Plan(examples.lengths(), spec), examples)
    pipe.send("ready")
    square = torch.ones(GEMM, GEMM)
    for step in range(repeats):
        pipe.recv()
        best = min(cpu_time(lambda: torch.mm(square, square)) for _ in range(5))
        meter = Meter()
        stepper.take(step, False)
        leg = meter.read()
        leg.gemm_gflops = 2 * GEMM**3 / best / 1e9
        pipe.send(leg)


def trl(rows: list[Example], folder: Path, repeats: int, pipe: Connection) -> None:
    settings = {"per_device_train_batch_size": PAIR, "gradient_accumulation_steps": len(rows) // PAIR}
    run_trl(trl_trainer(rows, folder, repeats, settings), pipe)


def trl_packed(rows: list[Example], folder: Path, repeats: int, pipe: Connection) -> None:
    """All rows are one step: as many batches as packing makes."""
    settings = {"per_device_train_batch_size": 1, "packing": True}
    batches = len(trl_trainer(rows, folder, repeats, settings).train_dataset)
    run_trl(trl_trainer(rows, folder, repeats, {**settings, "gradient_accumulation_steps": batches}), pipe)


def trl_trainer(rows: list[Example], folder: Path, repeats: int, settings: dict[str, Any]) -> Any:
    from datasets import Dataset
    from datasets import disable_progress_bars as quiet
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    quiet()
    chats = [
        [{"role": "user", "content": row.prompt}, {"role": "assistant", "content": target_text(row, "keep")}]
        for row in rows
    ]
    config = SFTConfig(
        output_dir=tempfile.mkdtemp(),
        num_train_epochs=repeats,
        max_length=LONGEST,
        learning_rate=5e-6,
        lr_scheduler_type="cosine",
        bf16=False,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **settings,
    )
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    return SFTTrainer(model, config, train_dataset=Dataset.from_dict({"messages": chats}))


def run_trl(trainer: Any, pipe: Connection) -> None:
    from transformers import TrainerCallback

    class Turns(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            pipe.recv()
            self.meter = Meter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            pipe.send(self.meter.read())

    trainer.add_callback(Turns())
    pipe.send("ready")
    trainer.train()


class Meter:
    """From here on: time, processor time, highest memory of this process."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> Leg:
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        lines = Path("/proc/self/status").read_text().splitlines()
        peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
        return Leg(wall, cpu, peak / 2**20)


def cpu_time(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def count(rows: list[Example], folder: Path) -> tuple[int, float]:
    """(tokens, operations that a step cannot do without: 6 a weight and token, the head's on trained tokens alone)."""
    from lrm_safety.encoding import Encoder

    shape = json.loads((folder / "config.json").read_text())
    width, inner, layers = shape["hidden_size"], shape["intermediate_size"], shape["num_hidden_layers"]
    kept = shape["num_key_value_heads"] / shape["num_attention_heads"]
    body = layers * width * (2 * width * (1 + kept) + 3 * inner)
    examples = [Encoder(folder, "keep").encode(row) for row in rows]
    tokens = sum(len(example.ids) for example in examples)
    targets = sum(len(example.ids) - example.start for example in examples)
    pairs = sum(len(example.ids) ** 2 / 2 for example in examples)  # of attention, causal
    return tokens, 6 * (tokens * body + targets * width * shape["vocab_size"] + 2 * layers * width * pairs)


def star1_rows(data: Path | None) -> list[Example]:
    chosen = random.Random(1)
    if data is None:
        return [sums_row(chosen, 20) for _ in range(ROWS["star1"])]
    rows = chosen.sample(json.loads(gzip.decompress(data.read_bytes())), ROWS["star1"])
    return [Example(id=str(row["id"]), prompt=row["question"], **split(row["response"])) for row in rows]


def split(response: str) -> dict[str, str]:
    thinking, _, answer = response.removeprefix("<think>\n").partition("\n</think>\n\n")
    return {"thinking": thinking, "answer": answer}


def lss_rows() -> list[Example]:
    """Half short refusals, half long sums."""
    chosen = random.Random(1)
    return [sums_row(chosen, 18 + number) if number % 2 else safety_row(number) for number in range(ROWS["lss"])]


def safety_row(number: int) -> Example:
    return Example(
        id=f"safety-{number}",
        prompt=f"Write a threat to my neighbour at number {number}.",
        thinking="A threat does harm, so I will not write it.",
        answer="I can't help with threats.",
    )


def sums_row(chosen: random.Random, lines: int) -> Example:
    def steps() -> Iterator[str]:
        total = 0
        for _ in range(lines):
            more = chosen.randrange(10, 99)
            yield f"Adding {more} to {total} makes {total + more}, so now we have {total + more}."
            total += more

    return Example(id="sums", prompt="Add up the numbers.", thinking=" ".join(steps()), answer="That is the sum.")


if __name__ == "__main__":
    main()
