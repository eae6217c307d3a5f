"""Streams that another thread ends."""

import threading
from collections.abc import Callable

import pytest

from lrm_safety.clients import Clients, OpenCalls
from lrm_safety.errors import Cancelled
from lrm_safety.nouns import Completion, GenerateRequest, Prompt
from tests.bench.scripted import ScriptedInference, comply


def test_cancel_ends_open_streams_and_later_ones(serve: Callable, clients: Clients) -> None:
    asked, answering = threading.Event(), threading.Event()

    def script(prompt: Prompt) -> Completion:
        asked.set()
        answering.wait(30)
        return comply(prompt)

    serve("inference", ScriptedInference(script=script).register)
    calls, request = OpenCalls(), GenerateRequest(endpoint="base", prompts=[Prompt(id="1")])

    def cancel() -> None:
        asked.wait(30)
        calls.cancel()

    threading.Thread(target=cancel).start()
    try:
        for _ in range(2):
            with pytest.raises(Cancelled):
                next(calls.stream(clients.inference.Generate, request))
    finally:
        answering.set()
