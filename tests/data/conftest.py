"""Fixtures of the tests whose datasets are written by a script."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lrm_safety.clients import Clients
from services.data import service
from tests.bench.scripted import ScriptedInference
from tests.data import files
from tests.data.scripted_build import Script


@pytest.fixture
def script(serve: Callable, clients: Clients) -> Script:
    """A data service, and endpoints `base` and `tuned` behind it that follow the script."""
    script = Script()
    serve("inference", ScriptedInference(script=script).register)
    serve("data", service.register)
    return script


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    return files.jsonl(tmp_path / "rows.jsonl", [{"id": n, "prompt": f"Question {n}?"} for n in range(40)])
