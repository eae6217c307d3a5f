"""Fixtures that every room shares: settings of an empty machine, a store, a served service, the real data files."""

import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import hypothesis
import pytest

from lrm_safety import serving
from lrm_safety.clients import Clients
from lrm_safety.settings import SERVICES, Settings
from lrm_safety.store import ObjectStore, open_store

# A run that was started in the background may be deaf to Ctrl-C, and so would be the commands that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("unhurried", deadline=None)  # what else a machine does is no failure
hypothesis.settings.load_profile("unhurried")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of published benchmark and training files; tests that need it skip without it."""
    if not SHARED_DATA.exists():
        pytest.skip(f"needs the published data files in {SHARED_DATA.parent.name}/data beside the checkout")
    return SHARED_DATA


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A machine of its own: store and state in tmp_path, every service on a free port, no metrics servers."""
    return Settings(
        store=f"file://{tmp_path}/store",
        state_dir=tmp_path / "state",
        data_dir=SHARED_DATA,
        addresses=dict(zip(SERVICES, (f"127.0.0.1:{port}" for port in free_ports(len(SERVICES))), strict=True)),
        metrics_ports=dict.fromkeys(SERVICES, 0),
    )


@pytest.fixture
def store(settings: Settings) -> ObjectStore:
    return open_store(settings)


@pytest.fixture
def serve(settings: Settings) -> Iterator[Callable[[str, serving.Register], serving.Server]]:
    """serve("judge", service.register) starts a service at its address in `settings`; all stop with the test."""
    started: list[serving.Server] = []

    def start(name: str, register: serving.Register, **changes: object) -> serving.Server:
        started.append(serving.start(name, register, replace(settings, **changes)))
        return started[-1]

    yield start
    for server in started:
        server.stop(0).wait()


@pytest.fixture
def clients(settings: Settings) -> Iterator[Clients]:
    made = Clients(settings)
    yield made
    made.close()


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on at this moment."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
