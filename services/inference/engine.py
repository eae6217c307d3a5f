"""The contract of an engine: a program of others that serves a checkpoint's folder as an OpenAI-compatible URL.

An engine is one file of `engines/` that defines `engine`, an object with

    image                        the cluster's image that it is in
    launch(site)                 how to start it: a command, never an import; offline, no remote code, no adapters, no
                                 usage statistics, and none of the model's own sampling defaults (what is not asked for
                                 is greedy, untruncated, without penalties)
    objection(get, model)        why the server that became healthy must not be used; empty when it may
    request(rendered, sampling)  what to post for a rendered prompt; the engine must not add special tokens to it
    window                       completions in flight at each replica: (fewest, most)

It is ready when GET /health answers 200.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, cast

from lrm_safety import registry
from lrm_safety.chat_client import ChatRequest
from lrm_safety.errors import InvalidInput
from lrm_safety.jobs.machine import Machine
from lrm_safety.nouns import EngineSpec, Sampling
from lrm_safety.settings import Settings

FOLDER = "services.inference.engines"
GIB = 2**30
Get = Callable[[str], tuple[int, str]]  # path below the server's root -> status (0 = nobody answers), text


@dataclass(frozen=True)
class Site:
    """Where an engine is to run and what it is to serve."""

    name: str  # of the endpoint; what the engine calls the model, where it may choose
    folder: Path  # of the checkpoint, Hugging Face layout, as the engine finds it
    files: Path  # the same without weights, as we find it
    weights_gib: float
    port: int
    spec: EngineSpec
    settings: Settings
    machine: Machine

    @property
    def is_cluster(self) -> bool:
        """In a pod of its own: it listens to the net, which a NetworkPolicy closes, and finds programs on its PATH."""
        return self.settings.jobs == "cluster"

    @property
    def host(self) -> str:
        return "0.0.0.0" if self.is_cluster else "127.0.0.1"

    def cpus(self, gpus: int = 0) -> int:
        """What an engine with so many of the node's GPUs takes: its share of the cores, else all of them."""
        share = gpus / self.machine.gpus if self.is_cluster and gpus and self.machine.gpus else 1.0
        return max(1, int(self.machine.cpus * share))

    def model_tokens(self) -> int:
        """The longest sequence the model was made for; 0 when it does not say."""
        longest = read_json(self.files / "config.json").get("max_position_embeddings")
        return longest if isinstance(longest, int) else 0


@dataclass(frozen=True)
class Launch:
    command: list[str]
    model: str  # its name in requests
    precision: str  # fp32 | bf16
    memory_gib: float
    env: dict[str, str] = field(default_factory=dict)
    gpus: int = 0


@dataclass(frozen=True)
class Rendered:
    """A prompt as the model reads it, and whose it is."""

    text: str
    model: str
    folder: Path
    keep_special_tokens: bool = False  # the think markers are among them


class Engine(Protocol):
    window: tuple[int, int]
    image: str  # engine | worker

    def launch(self, site: Site) -> Launch: ...

    def objection(self, get: Get, model: str) -> str: ...

    def request(self, rendered: Rendered, sampling: Sampling) -> ChatRequest: ...


def load(name: str) -> Engine:
    return cast(Engine, registry.load(FOLDER, name).engine)


def choose(spec: EngineSpec, settings: Settings) -> str:
    """The engine's name: what is asked for, or vllm where it is installed (in a cluster it is), else transformers."""
    has_vllm = settings.jobs == "cluster" or settings.vllm_python.exists()
    if spec.engine in ("", "auto"):
        return "vllm" if has_vllm else "transformers"
    if spec.engine == "vllm" and not has_vllm:
        raise InvalidInput(
            f"engine vllm needs its own environment, and there is no {settings.vllm_python}; `make setup` makes it, "
            "LRM_VLLM_PYTHON names another, engine: transformers does without"
        )
    return spec.engine


def model_names(text: str) -> list[str]:
    """The ids in an answer of GET /v1/models; none when it is something else."""
    try:
        return [str(model["id"]) for model in json.loads(text)["data"]]
    except (ValueError, KeyError, TypeError):
        return []


def read_json(path: Path) -> dict[str, object]:
    """A checkpoint's JSON file as a dict; empty when there is none."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidInput(f"{path.name} of the checkpoint is not JSON ({error}); import it again") from error
    return value if isinstance(value, dict) else {}
