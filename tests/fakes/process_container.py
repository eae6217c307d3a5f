"""A container as a process of this machine: its command, environment, files and end. What `process_node` runs.

A process here is no pid 1: SIGTERM ends it unless it says otherwise, where a real pid 1 would have to listen for it.
"""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lrm_safety.jobs.processes import MARK, kill_marked
from tests.fakes.process_probe import passes

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
VARIABLE = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")
LOOK_EVERY_S = 0.02  # at a process that is asked to stop
PROBE_EVERY_S = 0.3  # quicker than a kubelet, whose shortest is 1 s
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # `python` is ours, as an image has its own


class NotYet(Exception):
    """The container cannot start now; the reason is a kubelet's word for it."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


@dataclass(frozen=True)
class Start:
    """Everything that a container's process gets."""

    argv: list[str]
    env: Mapping[str, str]
    folder: Path
    log: Path
    mark: str


@dataclass
class Container:
    spec: Json
    address: str
    state: Json = field(default_factory=lambda: {"waiting": {"reason": "ContainerCreating"}})
    last_state: Json = field(default_factory=dict)
    restarts: int = 0
    is_ready: bool = False
    log: Path | None = None
    reason: str = ""  # why it was killed, if a test says so
    _process: "subprocess.Popen[bytes] | None" = None
    _mark: str = ""

    def run(self, start: Start, told: Callable[[], None]) -> int:
        """Until its end; its exit code as a kubelet counts. Calls `told` when its state changes."""
        self.log, self._mark = start.log, start.mark
        started = _now()
        try:
            with start.log.open("ab") as log:
                self._process = subprocess.Popen(
                    start.argv,
                    env={**start.env, MARK: start.mark},
                    cwd=start.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            message = f'failed to create containerd task: exec: "{start.argv[0]}": {error.strerror}: unknown'
            return self._end(128, "StartError", message, started)
        self.state = {"running": {"startedAt": started}}
        self.is_ready = not (self.spec.get("readinessProbe") or self.spec.get("startupProbe"))
        told()
        if not self.is_ready:
            threading.Thread(target=self._probe, args=(self._process, start.env, told), daemon=True).start()
        code = self._process.wait()
        kill_marked(start.mark)  # pid 1 is gone: so is every process of the container
        code = 128 - code if code < 0 else code
        self.is_ready = False
        return self._end(code, self.reason or ("Error" if code else "Completed"), "", started)

    def stop(self, until: Callable[[], float], env: Mapping[str, str]) -> None:
        """SIGTERM to the main process, SIGKILL to all at the time (monotonic) that `until` says; it may come nearer."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        hook = ((self.spec.get("lifecycle") or {}).get("preStop") or {}).get("exec")
        with suppress(OSError):
            if hook and until() > time.monotonic():
                before = subprocess.Popen(hook["command"], env=dict(env), stdout=subprocess.DEVNULL)
                _wait(before, until)
                before.kill()
                before.wait()
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        _wait(process, until)
        self.kill("")

    def kill(self, reason: str) -> None:
        self.reason = reason or self.reason
        if self._process and self._process.poll() is None:
            kill_marked(self._mark)

    def wait_to_restart(self, seconds: float) -> None:
        self.last_state, self.restarts = self.state, self.restarts + 1
        message = f"back-off {seconds:g}s restarting failed container={self.spec['name']}"
        self.state = {"waiting": {"reason": "CrashLoopBackOff", "message": message}}

    def status(self) -> Json:
        return {
            "name": self.spec["name"],
            "image": self.spec["image"],
            "imageID": "",
            "containerID": f"process://{self._process.pid}" if self._process else "",
            "ready": self.is_ready or self.exit_code == 0,
            "started": "running" in self.state,
            "restartCount": self.restarts,
            "state": self.state,
            "lastState": self.last_state,
        }

    @property
    def exit_code(self) -> int | None:
        code: int | None = (self.state.get("terminated") or {}).get("exitCode")
        return code

    def _probe(self, process: "subprocess.Popen[bytes]", env: Mapping[str, str], told: Callable[[], None]) -> None:
        startup, readiness = self.spec.get("startupProbe"), self.spec.get("readinessProbe")
        until = time.monotonic() + _allowed_s(startup)
        has_started = startup is None
        while process.poll() is None:
            if not has_started and startup:
                has_started = passes(startup, self.spec, self.address, env)
                if not has_started and time.monotonic() > until:
                    self.kill("Error")
            is_ready = has_started and (readiness is None or passes(readiness, self.spec, self.address, env))
            if is_ready != self.is_ready and process.poll() is None:
                self.is_ready = is_ready
                told()
            time.sleep(PROBE_EVERY_S)

    def _end(self, code: int, reason: str, message: str, started: str) -> int:
        ended = {"exitCode": code, "reason": reason, "message": message, "startedAt": started, "finishedAt": _now()}
        self.state = {"terminated": ended}
        return code


def expand(text: str, env: Mapping[str, str]) -> str:
    """$(NAME) replaced where the name is known; $$ is one $."""
    return VARIABLE.sub(lambda match: "$" if match[0] == "$$" else env.get(match[1], match[0]), text)


def _wait(process: "subprocess.Popen[bytes]", until: Callable[[], float]) -> None:
    while process.poll() is None and time.monotonic() < until():
        time.sleep(LOOK_EVERY_S)


def _allowed_s(startup: Json | None) -> float:
    probe = startup or {}
    return float(
        probe.get("initialDelaySeconds", 0) + probe.get("periodSeconds", 10) * probe.get("failureThreshold", 3)
    )


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
