"""How fast is our training on GPUs against TRL's SFTTrainer, and what share of their peak does it reach?

    .venv/bin/python -m benchmarks.training_gpu qwen2-1.5b|qwen2-7b|tiny [--repeats 3] [--steps 5] [--micro-batch 4]
        [--processes 1] [--zero-stage 0] [--offload none]

The shapes are those of Qwen2's published models, their weights and all tokens random; a step is 16 sequences of 64 to
2048 tokens, 8192 in all, of which all but the first of each are trained. In bf16 over fp32 weights and moments, which
is what TRL does too. In each repeat every contestant is loaded, takes two steps that do not count, and then those that
do: together they would have no room. Whether ours fits is reckoned first; who does not fit is named, without a number.
On several GPUs (--processes, with --zero-stage) only ours runs: TRL alone would hold everything on each. `tiny` shows
on any machine that all this works; what it prints there says nothing about speed, and is not kept.
"""

import argparse
import csv
import json
import os
import random
import statistics
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from itertools import groupby
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from benchmarks.contestants import CONTESTANTS, Contestant, Failed, Task, Work, meet, operations
from lrm_safety.encoding import Encoded
from lrm_safety.errors import InvalidInput
from lrm_safety.jobs.machine import detect
from lrm_safety.nouns import TrainingMetrics, TrainingSpec
from services.trainer import limits

QWEN2 = {"num_hidden_layers": 28, "max_position_embeddings": 131072, "rms_norm_eps": 1e-6}
ROTATION = {"rope_type": "default", "rope_theta": 1e6}
SHAPES: dict[str, dict[str, Any]] = {  # of Hugging Face's Qwen/Qwen2-1.5B and Qwen/Qwen2-7B
    "qwen2-1.5b": QWEN2
    | {"hidden_size": 1536, "intermediate_size": 8960, "num_attention_heads": 12, "num_key_value_heads": 2}
    | {"vocab_size": 151936, "tie_word_embeddings": True},
    "qwen2-7b": QWEN2
    | {"hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28, "num_key_value_heads": 4}
    | {"vocab_size": 152064, "tie_word_embeddings": False},
    "tiny": QWEN2
    | {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2}
    | {"vocab_size": 512, "tie_word_embeddings": False, "num_hidden_layers": 2},
}
LENGTHS = (2048, 1536, 1024, 768, 512, 512, 384, 256, 256, 256, 192, 128, 128, 64, 64, 64)
SHORTER = {"tiny": 16}  # by which factor all sequences are
WARM_UP = 2  # steps
SEED = 1
TABLE = Path(__file__).with_suffix(".csv")


@dataclass(frozen=True)
class Outset:
    """What is known before the first weight is loaded."""

    device: str
    peak_tflops: float  # of all devices
    peak_source: str
    mfu_per_token: float  # at one token a second
    refusal: str  # why ours does not fit


@dataclass(frozen=True)
class Row:
    """One contestant in the table; what was not measured is empty."""

    device: str
    torch: str
    shape: str
    contestant: str
    precision: str
    processes: int
    zero_stage: int
    offload: str
    micro_batch: int  # sequences at a time; of TRL's packing one row of the longest one's length
    tokens_per_step: int
    peak_tflops: float
    outcome: str  # measured, does not fit: …, failed: …
    way: str = ""  # attention, kernels, checkpointing
    tokens_per_s: str = ""  # median of the repeats
    tokens_per_s_range: str = ""
    mfu: str = ""  # as a training shows it: 6 operations a token and parameter that is multiplied by
    mfu_of_products: str = ""  # with those of attention, and the head's on trained tokens alone
    peak_gib: str = ""  # of the GPU that had the most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5, help="of a repeat")
    parser.add_argument("--micro-batch", type=int, default=4, help="sequences at a time")
    parser.add_argument("--processes", type=int, default=1, help="one a GPU")
    parser.add_argument("--zero-stage", type=int, default=0)
    parser.add_argument("--offload", choices=limits.OFFLOADS, default="none")
    options = parser.parse_args()
    gpus = torch.cuda.device_count()
    if options.shape != "tiny" and gpus < options.processes:
        parser.error(f"{options.shape} needs {options.processes} GPU(s), and torch sees {gpus} here")
    threads = max(1, detect().cpus // options.processes)
    os.environ.update({"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"})
    asked = TrainingSpec(processes=options.processes, zero_stage=options.zero_stage, offload=options.offload)
    asked.micro_batch_size, asked.epochs = options.micro_batch, WARM_UP + options.steps
    with tempfile.TemporaryDirectory() as folder:
        try:
            task = make_task(options.shape, Path(folder), asked)
        except InvalidInput as error:
            parser.error(str(error))
        rows = compare(options.shape, task, options.repeats)
    show(rows)
    if gpus:
        keep(rows, TABLE)


def make_task(shape: str, folder: Path, asked: TrainingSpec) -> Task:
    """The model in the folder, and the step. Raises InvalidInput when the spec does not hold together."""
    spec = TrainingSpec(name="a", base="b", dataset="c", precision="bf16", batch_size=len(LENGTHS))
    spec.MergeFrom(asked)
    spec.max_tokens = LENGTHS[0] // SHORTER.get(shape, 1)
    spec = limits.resolve(spec)
    write_model(shape, folder)
    chosen, words = random.Random(SEED), int(SHAPES[shape]["vocab_size"])
    sequences = [[chosen.randrange(words) for _ in range(length // SHORTER.get(shape, 1))] for length in LENGTHS]
    examples = [Encoded(str(number), ids, start=1) for number, ids in enumerate(sequences)]
    return Task(folder, examples, {"input_ids": sequences}, spec)


def write_model(shape: str, folder: Path) -> None:
    """Random weights in bf16, a layer at a time: there is never more than one in memory."""
    config = Qwen2Config(**SHAPES[shape], rope_parameters=ROTATION, dtype="bfloat16")
    config.save_pretrained(folder)
    words = Tokenizer(models.WordLevel({"<end>": 0}, unk_token="<end>"))  # TRL asks for one, of which it uses the end
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", pad_token="<end>").save_pretrained(folder)
    with torch.device("meta"):
        named = list(Qwen2ForCausalLM(config).named_parameters())
    generator, places = torch.Generator().manual_seed(SEED), dict[str, str]()
    for layer, members in groupby(named, key=lambda each: ".".join(each[0].split(".")[:3])):
        spread = config.initializer_range
        tensors = {name: draw(name, parameter.shape, spread, generator) for name, parameter in members}
        save_file(tensors, folder / f"{layer}.safetensors", metadata={"format": "pt"})
        places |= dict.fromkeys(tensors, f"{layer}.safetensors")
    size = 2 * sum(parameter.numel() for _, parameter in named)
    index = {"metadata": {"total_size": size}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def draw(name: str, size: torch.Size, spread: float, generator: torch.Generator) -> torch.Tensor:
    """As a model begins: matrices normal, norms one, biases zero."""
    if len(size) == 1:
        return torch.full(size, float(name.endswith("norm.weight")), dtype=torch.bfloat16)
    return torch.empty(size).normal_(0, spread, generator=generator).bfloat16()


def compare(shape: str, task: Task, repeats: int, works: Mapping[str, Work] = CONTESTANTS) -> list[Row]:
    """A row for each contestant; see Row."""
    contestant = Contestant(reckon, task)
    outset: Outset = contestant.hear()[0]
    contestant.end()
    print(f"{outset.device}: {outset.peak_tflops:.1f} TFLOP/s ({outset.peak_source}), {task.tokens} tokens a step")
    if outset.refusal:
        print(f"ours {outset.refusal} (here --processes, --zero-stage, --offload, --micro-batch)", flush=True)
    running = {name: work for name, work in works.items() if name == "ours" or task.spec.processes == 1}
    failed = {"ours": outset.refusal} if outset.refusal else {}
    found: dict[str, list[Repeat]] = {name: [] for name in running}
    for _ in range(repeats):
        for name, work in running.items():
            if name not in failed:
                try:
                    found[name].append(repeat(work, task))
                except Failed as error:
                    failed[name] = str(error)
                print(f"  {name}: {failed.get(name) or found[name][-1]}", flush=True)
    return [row_of((shape, name), task, outset, failed.get(name) or found[name]) for name in running]


def reckon(task: Task, pipe: Connection) -> None:
    """Says the Outset; from the shape alone."""
    meet(task)
    from services.trainer import engine_worker, outset_worker
    from services.trainer.estimate import Shape
    from services.trainer.gauge_worker import Gauge

    spec = task.spec
    engine_worker.join_processes()
    device, refusal = engine_worker.device(), ""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(task.folder))
    gauge = Gauge(model, spec.precision, device)
    lengths = [len(example.ids) for example in task.examples]
    try:
        outset_worker.reckon(Shape.read(task.folder, model.num_parameters()), spec, spec.precision, lengths)
    except InvalidInput as error:
        refusal = f"does not fit: {error}"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    per_token = gauge.read(TrainingMetrics(tokens_per_s=1.0)).mfu
    shown = name if spec.processes == 1 else f"{spec.processes} x {name}"
    pipe.send(Outset(shown, gauge.peak_tflops, gauge.source, per_token, refusal))


@dataclass(frozen=True)
class Repeat:
    way: str
    tokens_per_s: float
    peak_gib: float


def repeat(work: Work, task: Task) -> Repeat:
    """From the loading to the last step. Raises Failed."""
    contestant = Contestant(work, task)
    way = str(contestant.hear()[0])
    legs = [contestant.step() for _ in range(int(task.spec.epochs))][WARM_UP:]
    contestant.end()
    seconds = sum(leg.wall_s for leg in legs)
    return Repeat(way, task.tokens * len(legs) / seconds, max(leg.peak_gib for leg in legs))


def row_of(of: tuple[str, str], task: Task, outset: Outset, found: list[Repeat] | str) -> Row:
    """`of`: shape and contestant; `found`: its repeats, or why there are none."""
    shape, name = of
    asked = task.spec if name == "ours" else limits.resolve(TrainingSpec(name="a", base="b", dataset="c"))
    size = 1 if name == "trl packed" else task.spec.micro_batch_size
    how = (task.spec.precision, asked.processes, asked.zero_stage, asked.offload, size)
    head = (outset.device, torch.__version__, shape, name, *how, task.tokens, round(outset.peak_tflops, 1))
    if isinstance(found, str):
        return Row(*head, outcome=found)
    speeds = [each.tokens_per_s for each in found]
    speed = statistics.median(speeds)
    return Row(
        *head,
        outcome="measured",
        way=found[0].way,
        tokens_per_s=f"{speed:.0f}",
        tokens_per_s_range=f"{min(speeds):.0f}-{max(speeds):.0f}",
        mfu=f"{speed * outset.mfu_per_token:.3f}",
        mfu_of_products=f"{speed * operations(task) / task.tokens / outset.peak_tflops / 1e12:.3f}",
        peak_gib=f"{max(each.peak_gib for each in found):.1f}",
    )


def show(rows: list[Row]) -> None:
    print("| contestant | way | tokens/s (range) | MFU | of products | peak GiB |\n|---|---|---|---|---|---|")
    for row in rows:
        speed = f"{row.tokens_per_s} ({row.tokens_per_s_range})" if row.tokens_per_s else row.outcome
        print(f"| {row.contestant} | {row.way} | {speed} | {row.mfu} | {row.mfu_of_products} | {row.peak_gib} |")


def keep(rows: list[Row], table: Path) -> None:
    """In the table, in the place of those of the same device, shape, contestant and ZeRO."""
    names = [each.name for each in fields(Row)]
    written = [{name: str(value) for name, value in asdict(row).items()} for row in rows]
    kept = [old for old in read(table) if identity(old) not in map(identity, written)]
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows([*kept, *written])


def read(table: Path) -> Iterator[dict[str, str]]:
    if table.exists():
        with table.open(newline="", encoding="utf-8") as file:
            yield from csv.DictReader(file)


def identity(row: Mapping[str, str]) -> list[str]:
    """The device names how many there are."""
    return [row[name] for name in ("device", "shape", "contestant", "zero_stage", "offload")]


if __name__ == "__main__":
    main()
