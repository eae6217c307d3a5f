"""Logs go to what stderr is when something is said, whatever it was when the logger was made."""

import io
import json
import sys

import pytest

from lrm_safety import observe
from lrm_safety.settings import Settings


def test_a_logger_outlives_the_stream_it_was_made_with(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", first)
    observe.configure(settings)
    log = observe.logger("here")
    log.warning("said_once")
    assert json.loads(first.getvalue())["event"] == "said_once"
    first.close()
    monkeypatch.setattr(sys, "stderr", second)
    log.warning("said_again", run="bench-1")
    assert json.loads(second.getvalue())["run"] == "bench-1"
