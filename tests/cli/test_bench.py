"""`lrm bench noise`: a baseline against itself, by repeats of one run or by runs that are given."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from typer.testing import CliRunner

from lrm_safety.cli import _output, app, bench
from lrm_safety.clients import Clients
from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import Completion, Prompt
from lrm_safety.settings import Settings
from tests.bench.conftest import Stage, harm_file, harm_spec, stage  # noqa: F401  (fixtures)
from tests.bench.scripted import comply, refuse
from tests.bench.test_evaluate import number


def moody(prompt: Prompt) -> Completion:
    flips = number(prompt.messages[-1].content) < 3 and prompt.repeat == 2
    return comply(prompt) if flips else refuse(prompt)


@pytest.fixture(autouse=True)
def _connected(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    @contextmanager
    def connected(settings: Settings) -> Iterator[Clients]:
        yield stage.clients

    monkeypatch.setattr(bench, "connected", connected)
    monkeypatch.setattr(_output.console, "_width", 160)  # COLUMNS counts only before it is made


def test_compare(stage: Stage, harm_file: Callable[[int], str]) -> None:  # noqa: F811
    spec = harm_spec(harm_file(40))
    base = stage.measure(spec).run
    stage.inference.script = lambda prompt: (
        comply(prompt) if number(prompt.messages[-1].content) < 10 else refuse(prompt)
    )
    spec.endpoint = "tuned"
    tuned = stage.measure(spec).run
    done = CliRunner().invoke(app, ["bench", "compare", base, tuned])
    assert done.exit_code == 0, done.exception
    (row,) = [line.split() for line in done.stdout.splitlines() if line.startswith("strongreject")]
    assert row[:7] == ["strongreject", "none", "refusal", "40", "10", "0", "+25.0"]
    assert row[-3:] == ["0.002", "0.002", "21.5"]  # 2 / 2^10; z = 1.96, 0.84; 40 pairs, a quarter of which differ
    asked = CliRunner().invoke(app, ["bench", "compare", base, tuned, "--json"])
    assert '"worse": 10' in asked.stdout


def test_noise(stage: Stage, harm_file: Callable[[int], str]) -> None:  # noqa: F811
    stage.inference.script = moody
    run = stage.measure(harm_spec(harm_file(20))).run
    done = CliRunner().invoke(app, ["bench", "noise", run, "--repeats", "3", "--json"])
    assert done.exit_code == 0, done.exception
    found, _ = json.JSONDecoder().raw_decode(done.stdout[done.stdout.index("{\n") :])  # services here log beside it
    (role,) = found["roles"]
    assert (role["pairs"], role["flips"], role["samples"]) == (
        60,
        6,
        20,
    )  # of three pairs of repeats two have the third
    assert found["runs"] != [run]
    shown = CliRunner().invoke(app, ["bench", "noise", *found["runs"], run])
    assert shown.exit_code == 0 and "noise floor" in shown.stdout and "points" in shown.stdout
    alone = CliRunner().invoke(app, ["bench", "noise", run])
    assert isinstance(alone.exception, InvalidInput)
    assert "measured twice" in str(alone.exception)
