"""`lrm bench noise`: a baseline against itself, by repeats of one run or by runs that are given."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from typer.testing import CliRunner

from lrm_safety.cli import app, bench
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


def test_noise(
    stage: Stage,  # noqa: F811
    harm_file: Callable[[int], str],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @contextmanager
    def connected(settings: Settings) -> Iterator[Clients]:
        yield stage.clients

    monkeypatch.setattr(bench, "connected", connected)
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
