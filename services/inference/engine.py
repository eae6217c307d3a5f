"""The contract of an engine: a program of others that serves a checkpoint's folder as an OpenAI-compatible URL.

An engine is one file of `engines/` that defines `engine`, an object with

    launch(site)                 how to start it: a command, never an import; loopback only unless told otherwise,
                                 offline, no remote code, no usage statistics, and none of the model's own sampling
                                 defaults (what is not asked for is greedy, untruncated, without penalties)
    request(rendered, sampling)  what to post for a rendered prompt; the engine must not add special tokens to it
    window                       completions in flight: (fewest, most)

It is ready when GET /health answers 200.
"""

import json
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


@dataclass(frozen=True)
class Site:
    """Where an engine is to run and what it is to serve."""

    name: str  # of the endpoint; what the engine calls the model, where it may choose
    folder: Path  # of the checkpoint, Hugging Face layout
    port: int
    spec: EngineSpec
    settings: Settings
    machine: Machine

    def weights_gib(self) -> float:
        return sum(path.stat().st_size for path in self.folder.glob("*.safetensors")) / GIB

    def model_tokens(self) -> int:
        """The longest sequence the model was made for; 0 when it does not say."""
        longest = read_json(self.folder / "config.json").get("max_position_embeddings")
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

    def launch(self, site: Site) -> Launch: ...

    def request(self, rendered: Rendered, sampling: Sampling) -> ChatRequest: ...


def load(name: str) -> Engine:
    return cast(Engine, registry.load(FOLDER, name).engine)


def choose(spec: EngineSpec, settings: Settings) -> str:
    """The engine's name: what is asked for, or vllm where its environment is installed, else transformers."""
    has_vllm = settings.vllm_python.exists()
    if spec.engine in ("", "auto"):
        return "vllm" if has_vllm else "transformers"
    if spec.engine == "vllm" and not has_vllm:
        raise InvalidInput(
            f"engine vllm needs its own environment, and there is no {settings.vllm_python}; `make setup` makes it, "
            "LRM_VLLM_PYTHON names another, engine: transformers does without"
        )
    return spec.engine


def read_json(path: Path) -> dict[str, object]:
    """A checkpoint's JSON file as a dict; empty when there is none."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidInput(f"{path.name} of the checkpoint is not JSON ({error}); import it again") from error
    return value if isinstance(value, dict) else {}
