"""Fixtures of the inference tests: checkpoints without torch, and the service itself."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lrm_safety import artefacts
from lrm_safety.clients import Clients
from lrm_safety.nouns import Checkpoint
from lrm_safety.settings import Settings
from lrm_safety.store import ObjectStore
from services.inference import service
from tests.fakes.engine_process import install
from tests.fakes.scripted_engine import scripted_engine  # noqa: F401  (a fixture)

TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{{ opening }}{% endif %}"
)
Publish = Callable[..., Checkpoint]


@pytest.fixture
def publish(store: ObjectStore, tmp_path: Path) -> Publish:
    """publish("name", opening="<think>\\n", **config) puts a checkpoint into the store; its weights are the name."""

    def make(name: str, opening: str = "", **config: object) -> Checkpoint:
        folder = tmp_path / "made" / name
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_text(name * 100)
        (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 2048, "eos_token_id": 2, **config}))
        (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end|>"}))
        (folder / "chat_template.jinja").write_text(TEMPLATE.replace("{{ opening }}", opening))
        return artefacts.publish(store, "checkpoints", folder, Checkpoint(name=name))

    return make


@pytest.fixture
def scripted_settings(settings: Settings, tmp_path: Path) -> Settings:
    """Settings whose vLLM is the scripted engine, started as a real Job."""
    return replace(settings, vllm_python=install(tmp_path / "venv" / "bin"))


@pytest.fixture
def served(serve: Callable[..., object], scripted_settings: Settings, clients: Clients) -> Clients:
    """Clients of a running InferenceService."""
    serve("inference", service.register, vllm_python=scripted_settings.vllm_python)
    return clients
