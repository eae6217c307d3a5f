"""The bench service's web pages: on loopback, and only where they are asked for."""

import socket
import urllib.request
from collections.abc import Callable

import pytest

from lrm_safety import serving
from services.bench import service
from tests.conftest import free_ports


@pytest.mark.parametrize("is_asked", [True, False])
def test_served_on_loopback_when_asked_for(serve: Callable[..., serving.Server], is_asked: bool) -> None:
    (port,) = free_ports(1)
    serve("bench", service.register, view_port=port if is_asked else 0, host="0.0.0.0", is_plain_text=True)
    if is_asked:
        with urllib.request.urlopen(f"http://localhost:{port}/", timeout=10) as answer:
            assert answer.headers["Content-Type"].startswith("text/html")
    for address in ("127.0.0.2",) if is_asked else ("127.0.0.1", "127.0.0.2"):
        with pytest.raises(ConnectionRefusedError):  # it would answer there too, were it open to others
            socket.create_connection((address, port), timeout=10)
