"""A tiny random Llama with a tokenizer made here, a small dataset, and the real worker as a subprocess."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from google.protobuf.message import Message

from lrm_safety import artefacts, jsonl
from lrm_safety.jobs.machine import detect
from lrm_safety.nouns import Checkpoint, Dataset, Example, Lineage, Run, RunSpec, TrainingSpec, reference
from lrm_safety.runs import run_id
from lrm_safety.settings import Settings, process_env
from lrm_safety.store import ObjectStore, open_store
from services.trainer.jobs import worker_job
from services.trainer.ledger import Ledger

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def examples(count: int = 24) -> list[Example]:
    """Sums, of different lengths."""
    return [
        Example(
            id=f"sum-{n}",
            prompt=f"What is {n} and {n + 1}?",
            thinking=" ".join(f"{n} and {k} are {n + k}." for k in range(1 + n % 5)),
            answer=f"It is {2 * n + 1}.",
        )
        for n in range(count)
    ]


def write_tokenizer(folder: Path) -> None:
    """About 500 byte-level tokens; <think> is no token of its own."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=specials, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator([f"{e.prompt} {e.thinking} {e.answer}" for e in examples(200)], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", bos_token="<|im_start|>", pad_token="<|endoftext|>"
    )
    fast.chat_template = CHATML
    fast.save_pretrained(folder)


def tiny_llama(**changes: object) -> "LlamaForCausalLM":
    """2 layers, 64 hidden, where nothing else is said; its weights are the same each time."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    return LlamaForCausalLM(LlamaConfig(**{**shape, **changes}))


def write_model(folder: Path, dropout: float = 0.1) -> None:
    """With dropout, so that a resume has random numbers to get right."""
    from transformers import GenerationConfig

    model = tiny_llama(attention_dropout=dropout)
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=0)
    model.save_pretrained(folder)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_model(folder)
    write_tokenizer(folder)
    return folder


@dataclass
class Bench:
    """What a training needs, in a store of its own."""

    store: ObjectStore
    settings: Settings
    base: str
    dataset: str

    def spec(self, **changes: object) -> TrainingSpec:
        spec = TrainingSpec(
            name="tuned",
            base=self.base,
            dataset=self.dataset,
            method="sft",
            epochs=2,
            learning_rate=3e-3,
            batch_size=8,
            micro_batch_size=4,
            max_tokens=200,
            warmup_ratio=0.1,
            max_grad_norm=1.0,
            seed=1,
            precision="fp32",
            thinking="keep",
            processes=1,
            nodes=1,
            offload="none",
            keep_resume_points=1,
            adam_beta2=0.95,
        )
        spec.MergeFrom(TrainingSpec(**changes))
        return spec

    def ask(self, spec: TrainingSpec) -> Ledger:
        """Writes a run into the store as RunHost does; returns its ledger."""
        asked = RunSpec(training=spec)
        id_ = run_id("training", asked)
        run = Run(id=id_, kind="training", spec=asked)
        self.store.write(f"runs/{id_}/spec.json", jsonl.dumps(run).encode())
        return Ledger(self.store, id_)

    def start(self, ledger: Ledger, attempt: int = 1) -> subprocess.Popen[str]:
        """The job's own command and environment, without the runner."""
        run = jsonl.loads(Run, self.store.read(f"runs/{ledger.run}/spec.json"))
        job = worker_job(run, 1e6, attempt, detect())
        return subprocess.Popen(
            [sys.executable, *job.command[1:]],
            env=process_env({**job.env, "LRM_STORE": self.settings.store, "LRM_STATE": str(self.settings.state_dir)}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def train(self, spec: TrainingSpec, attempt: int = 1) -> tuple[Ledger, int, str]:
        """(ledger, exit code, output) of one whole attempt."""
        ledger = self.ask(spec)
        process = self.start(ledger, attempt)
        output, _ = process.communicate(timeout=240)
        return ledger, process.returncode, output


def make_bench(tmp_path: Path, folder: Path) -> Bench:
    settings = Settings(store=f"file://{tmp_path}/store", state_dir=tmp_path / "state")
    store = open_store(settings)
    base = artefacts.publish(
        store, "checkpoints", folder, Checkpoint(name="tiny", lineage=Lineage(origin="test", licence="none"))
    )
    dataset = publish_examples(store, tmp_path, examples())
    return Bench(store, settings, reference(base.name, base.digest), dataset)


@pytest.fixture
def bench(tiny_folder: Path, tmp_path: Path) -> Bench:
    return make_bench(tmp_path, tiny_folder)


def publish_examples(store: ObjectStore, tmp_path: Path, rows: list[Example], name: str = "sums") -> str:
    folder = tmp_path / f"dataset-{name}"
    folder.mkdir()
    messages: list[Message] = list(rows)
    (folder / "examples.jsonl.zst").write_bytes(jsonl.pack(messages))
    dataset = artefacts.publish(store, "datasets", folder, Dataset(name=name, examples=len(rows)))
    return reference(dataset.name, dataset.digest)
