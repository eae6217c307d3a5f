"""What the benchmarks of training compare, each in processes of its own: ours, TRL, TRL with packing."""

import gc
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from lrm_safety.encoding import Encoded
from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import TrainingSpec
from lrm_safety.store.files import FileStore
from tests.conftest import free_ports

GEMM = 1024  # rows and columns of the matrices whose product is the measure


@dataclass(frozen=True)
class Task:
    """Optimizer steps that each see all of the examples."""

    folder: Path  # of the model
    examples: list[Encoded]
    columns: dict[str, list[Any]]  # the same as a data set for TRL
    spec: TrainingSpec  # resolved; an epoch is a step
    rank: int = 0  # of spec.processes
    port: int = 0  # where they meet

    @property
    def tokens(self) -> int:
        """Of a step."""
        return sum(len(example.ids) for example in self.examples)


@dataclass
class Leg:
    """One optimizer step of one contestant."""

    wall_s: float
    cpu_s: float  # of all threads
    peak_gib: float  # of the GPU where there is one
    gemm_gflops: float = 0.0  # a second of processor time, just before


@dataclass(frozen=True)
class Refusal:
    reason: str


class Failed(Exception):
    """A contestant did not come to a number; the text says why."""


Work = Callable[[Task, Connection], None]


class Contestant:
    """Processes of their own, which wait for their turns."""

    def __init__(self, work: Work, task: Task) -> None:
        context = multiprocessing.get_context("spawn")
        self._members: list[tuple[Any, Connection]] = []
        for rank, port in enumerate(free_ports(1) * task.spec.processes):
            here, there = context.Pipe()
            mine = replace(task, rank=rank, port=port)
            process = context.Process(target=take_part, args=(work, mine, there), daemon=True)
            process.start()
            there.close()  # else nobody would hear that the process ended
            self._members.append((process, here))

    def step(self) -> Leg:
        """The slowest and the largest of its processes. Raises Failed."""
        for _, pipe in self._members:
            pipe.send("go")
        legs: list[Leg] = self.hear()
        return max(legs, key=lambda leg: (leg.wall_s, leg.peak_gib))

    def hear(self) -> list[Any]:
        """What each of its processes says next. Raises Failed, and ends them all, when one cannot go on."""
        found: dict[Connection, Any] = {}
        while waiting := [pipe for _, pipe in self._members if pipe not in found]:
            ready = wait(waiting)
            for pipe in (each for each in waiting if each in ready):
                try:
                    found[pipe] = pipe.recv()
                except EOFError:
                    found[pipe] = Refusal("failed: a process ended; what it wrote says why")
            if refused := [each for each in found.values() if isinstance(each, Refusal)]:
                self.end()
                raise Failed(refused[0].reason)
        return [found[pipe] for _, pipe in self._members]

    def end(self) -> None:
        for process, _ in self._members:
            process.kill()
            process.join()


def take_part(work: Work, task: Task, pipe: Connection) -> None:
    """A contestant's process. The only one of its kind sees one GPU: TRL would share its batches out over all."""
    if task.spec.processes == 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    import torch

    try:
        work(task, pipe)
    except torch.OutOfMemoryError as error:
        pipe.send(Refusal(f"does not fit: {str(error).partition('. ')[0]}"))
    except InvalidInput as error:
        pipe.send(Refusal(f"failed: {error}"))


def ours(task: Task, pipe: Connection) -> None:
    """The worker's own parts: estimate, proof, kernels, engine, steps."""
    meet(task)
    from services.trainer import engine_worker, kernels_worker, method, outset_worker, proof_worker
    from services.trainer.encoding import EncodedRows
    from services.trainer.estimate import Shape
    from services.trainer.ledger import Ledger
    from services.trainer.plan import Plan
    from services.trainer.step_worker import Stepper

    spec, examples = task.spec, EncodedRows.of(task.examples)
    engine_worker.join_processes()
    with tempfile.TemporaryDirectory() as kept:
        ledger = Ledger(FileStore(Path(kept)), "benchmark", 1)
        model = engine_worker.load_model(task.folder, is_hollow=spec.zero_stage == 3 and task.rank > 0)
        shape = Shape.read(task.folder, model.num_parameters())
        settled, _ = outset_worker.reckon(shape, spec, spec.precision, examples.lengths())
        objective = method.load("sft", {})
        way = proof_worker.agree(model, examples, spec, spec.precision, ledger)
        trial = kernels_worker.agree(model, way, examples, spec, spec.precision, ledger)
    trained = engine_worker.Trained(model, objective, way, spec)
    engine = engine_worker.make_engine(trained, settled, spec.precision)
    stepper = Stepper(engine, objective, Plan(examples.lengths(), spec), examples)
    pipe.send(f"{way.attention}, {trial.kernels} layers{', checkpointing' * settled.gradient_checkpointing}")
    for step in range(int(spec.epochs)):
        pipe.recv()
        gemm_gflops = 0.0 if has_gpu() else rate_of_products()
        meter = Meter()
        stepper.take(step, False)
        leg = meter.read()
        pipe.send(replace(leg, gemm_gflops=gemm_gflops))


def meet(task: Task) -> None:
    """What torchrun would say."""
    size = str(task.spec.processes)
    os.environ.update({"RANK": str(task.rank), "LOCAL_RANK": str(task.rank)})
    os.environ.update({"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size})
    os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(task.port)})
    if not has_gpu():
        os.environ["DS_ACCELERATOR"] = "cpu"


def has_gpu() -> bool:
    """That torch can use."""
    import torch

    return torch.cuda.is_available()


def rate_of_products() -> float:
    """GFLOP a second of processor time, of products of GEMM x GEMM."""
    import torch

    square = torch.ones(GEMM, GEMM)
    return 2 * GEMM**3 / min(cpu_time(lambda: torch.mm(square, square)) for _ in range(5)) / 1e9


def trl(task: Task, pipe: Connection) -> None:
    size = task.spec.micro_batch_size
    settings = {"per_device_train_batch_size": size, "gradient_accumulation_steps": len(task.examples) // size}
    run_trl(trl_trainer(task, settings), pipe)


def trl_packed(task: Task, pipe: Connection) -> None:
    """All rows are one step: as many batches as packing makes."""
    settings = {"per_device_train_batch_size": 1, "packing": True}
    batches = len(trl_trainer(task, settings).train_dataset)
    gc.collect()  # for two there may be no room
    run_trl(trl_trainer(task, {**settings, "gradient_accumulation_steps": batches}), pipe)


def trl_trainer(task: Task, settings: dict[str, Any]) -> Any:
    from datasets import Dataset
    from datasets import disable_progress_bars as quiet
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    quiet()
    config = SFTConfig(
        output_dir=tempfile.mkdtemp(),
        num_train_epochs=task.spec.epochs,
        max_length=task.spec.max_tokens,
        learning_rate=task.spec.learning_rate,
        lr_scheduler_type="cosine",
        bf16=task.spec.precision == "bf16",
        use_cpu=not has_gpu(),
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **settings,
    )
    attention = "flash_attention_2" if has_gpu() and find_spec("flash_attn") else "sdpa"
    model = AutoModelForCausalLM.from_pretrained(task.folder, dtype="float32", attn_implementation=attention)
    return SFTTrainer(model, config, train_dataset=Dataset.from_dict(task.columns))


def run_trl(trainer: Any, pipe: Connection) -> None:
    from transformers import TrainerCallback

    class Turns(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            pipe.recv()
            self.meter = Meter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            pipe.send(self.meter.read())

    trainer.add_callback(Turns())
    attention = trainer.model.config._attn_implementation
    pipe.send(f"{attention}{', checkpointing' * trainer.args.gradient_checkpointing}")
    trainer.train()


CONTESTANTS: dict[str, Work] = {"ours": ours, "trl": trl, "trl packed": trl_packed}


class Meter:
    """From here on: time, processor time, highest memory of this process or of its GPU."""

    def __init__(self) -> None:
        import torch

        self._cuda = torch.cuda if has_gpu() else None
        if self._cuda:
            self._cuda.synchronize()
            self._cuda.reset_peak_memory_stats()
        else:
            Path("/proc/self/clear_refs").write_text("5")
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> Leg:
        if self._cuda:
            self._cuda.synchronize()
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        if self._cuda:
            return Leg(wall, cpu, self._cuda.max_memory_allocated() / 2**30)
        lines = Path("/proc/self/status").read_text().splitlines()
        peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
        return Leg(wall, cpu, peak / 2**20)


def cpu_time(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def operations(task: Task) -> float:
    """Those that a step cannot do without: 6 a weight and token, the head's on trained tokens alone, attention's."""
    shape = json.loads((task.folder / "config.json").read_text())
    width, inner, layers = shape["hidden_size"], shape["intermediate_size"], shape["num_hidden_layers"]
    kept = shape["num_key_value_heads"] / shape["num_attention_heads"]
    body = layers * width * (2 * width * (1 + kept) + 3 * inner)
    targets = sum(len(example.ids) - example.start for example in task.examples)
    pairs = sum(len(example.ids) ** 2 / 2 for example in task.examples)  # of attention, causal
    return float(6 * (task.tokens * body + targets * width * shape["vocab_size"] + 2 * layers * width * pairs))
