"""Reaching the services: those that are up, or five of our own for as long as the command runs."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lrm_safety import tls
from lrm_safety.cli._output import errors
from lrm_safety.clients import Clients
from lrm_safety.errors import Conflict, Unavailable
from lrm_safety.settings import SERVICES, Settings, process_env

START_S = 90.0
STOP_S = 20.0
_LOCAL = ("localhost", "127.0.0.1", "[::1]")


@contextmanager
def connected(settings: Settings) -> Iterator[Clients]:
    """Clients of running services. With none on this machine, hosts them until the block ends.

    An interrupt leaves services that were started here running: work goes on, and `lrm down` ends it.
    """
    started = ensure_up(settings)
    clients = Clients(settings)
    try:
        yield clients
    except KeyboardInterrupt:
        started = False
        raise
    finally:
        clients.close()
        if started:
            stop(settings)


def ensure_up(settings: Settings) -> bool:
    """True when services had to be started. Raises Unavailable when some are down and cannot be started here."""
    down = [name for name in SERVICES if not is_serving(settings, settings.addresses[name])]
    if not down:
        if running_pid(settings) is None:
            errors.print(f"[dim]using services that are up already, not started from {settings.state_dir}[/]")
        return False
    if len(down) < len(SERVICES) or any(not _is_local(settings.addresses[name]) for name in SERVICES):
        places = ", ".join(f"{name} at {settings.addresses[name]}" for name in down)
        raise Unavailable(f"not answering: {places}; start them with `lrm up`, or check LRM_<SERVICE>_ADDR")
    _start(settings)
    return True


def stop(settings: Settings) -> bool:
    """Ends the services that `lrm` started here, gracefully, then surely; False when there are none."""
    pid = running_pid(settings)
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_S
    while _is_ours(pid):
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
    _pid_file(settings).unlink(missing_ok=True)
    return True


def running_pid(settings: Settings) -> int | None:
    """The process that hosts our services, if it lives."""
    try:
        pid = int(_pid_file(settings).read_text())
    except (FileNotFoundError, ValueError):
        return None
    return pid if _is_ours(pid) else None


def is_serving(settings: Settings, address: str) -> bool:
    """Whether a gRPC health check at the address answers SERVING within two seconds."""
    with tls.open_channel(settings, address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=2)
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def log_file(settings: Settings) -> Path:
    return settings.state_dir / "services.log"


def _start(settings: Settings) -> None:
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    with log_file(settings).open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "services"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=process_env({}),
        )
    _pid_file(settings).write_text(str(process.pid))
    deadline = time.monotonic() + START_S
    while not all(is_serving(settings, settings.addresses[name]) for name in SERVICES):
        if process.poll() is not None:
            last = log_file(settings).read_text(errors="replace").strip().rsplit("\n", 1)[-1]
            raise Conflict(f"the services did not start: {last}")
        if time.monotonic() > deadline:
            stop(settings)
            raise Unavailable(f"the services were not up within {START_S:.0f} s; see {log_file(settings)}")
        time.sleep(0.2)


def _pid_file(settings: Settings) -> Path:
    return settings.state_dir / "services.pid"


def _is_ours(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().split(b"\0")
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            state = file.read().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return b"services" in words and state != "Z"


def _is_local(address: str) -> bool:
    return address.rsplit(":", 1)[0] in _LOCAL
