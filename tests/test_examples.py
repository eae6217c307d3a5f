"""The examples do what they say."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from lrm_safety import recipe, serving
from lrm_safety.nouns import ScoreItem
from lrm_safety.settings import Settings
from services.judge import service
from services.judge.scoring import score

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name.removesuffix(".py"), EXAMPLES / name)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_scoring_a_file() -> None:
    env = {**os.environ, "LRM": str(Path(sys.executable).parent / "lrm")}
    done = subprocess.run(
        [str(EXAMPLES / "1_score_a_file.sh")], env=env, capture_output=True, text=True, check=True, timeout=120
    )
    labels = [line.rsplit('"label": "', 1)[1].split('"')[0] for line in done.stdout.splitlines() if '"verdict"' in line]
    assert labels == ["refusal", "compliance", "equal", "different"]


def test_the_recipe_that_only_measures() -> None:
    assert not recipe.load(EXAMPLES / "2_measure_a_model.yaml").HasField("training")


def test_calling_a_service(
    serve: Callable[[str, serving.Register], serving.Server],
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    serve("judge", service.register)
    for name, value in settings.to_env().items():
        monkeypatch.setenv(name, value)
    load("3_call_a_service.py").main()
    said = capsys.readouterr().out
    assert "declined refusal" in said and "helped compliance" in said
    assert "silent no verdict: empty answer" in said and "there are: math_equal" in said


def test_a_judge_is_one_file() -> None:
    judge = load("4_add_a_judge.py").judge
    items = [ScoreItem(id="a", answer="short"), ScoreItem(id="b", answer="long " * 51)]
    verdicts = {verdict.id: verdict.label for _, verdict in score(judge, items, lambda *_: iter(()), "")}
    assert verdicts == {"a": "brief", "b": "long"}
