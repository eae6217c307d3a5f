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
import os
import random
import statistics
from collections.abc import Iterator
from pathlib import Path

from benchmarks.contestants import CONTESTANTS, GEMM, Contestant, Leg, Task, operations
from lrm_safety.chat import target_text
from lrm_safety.encoding import Encoder
from lrm_safety.nouns import Example, TrainingSpec
from services.trainer import limits

ROWS = {"star1": 8, "lss": 12}
PAIR = 2  # examples a batch in LRM-Safety-Study's script
LONGEST = 1024


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
            compare(mix, task_of(rows, options.folder, options.repeats))


def task_of(rows: list[Example], folder: Path, repeats: int) -> Task:
    asked = TrainingSpec(name="a", base="b", dataset="c", precision="fp32", epochs=repeats, learning_rate=5e-6)
    asked.batch_size, asked.micro_batch_size, asked.max_tokens = len(rows), PAIR, LONGEST
    chats = [
        [{"role": "user", "content": row.prompt}, {"role": "assistant", "content": target_text(row, "keep")}]
        for row in rows
    ]
    encoder = Encoder(folder, "keep")
    return Task(folder, [encoder.encode(row) for row in rows], {"messages": chats}, limits.resolve(asked))


def compare(mix: str, task: Task) -> None:
    contestants = {name: Contestant(work, task) for name, work in CONTESTANTS.items()}
    for contestant in contestants.values():
        contestant.hear()  # ready
    print(f"{mix}: {len(task.examples)} rows, {task.tokens} tokens", flush=True)
    legs: dict[str, list[Leg]] = {name: [] for name in contestants}
    for _ in range(int(task.spec.epochs)):
        for name, contestant in contestants.items():
            legs[name].append(contestant.step())
            print(f"  {name}: {legs[name][-1]}", flush=True)
    for contestant in contestants.values():
        contestant.end()
    table(legs, task.tokens, operations(task))


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
