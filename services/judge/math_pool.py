"""A few worker processes for algebra, started when first needed, killed and replaced when one hangs or dies."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from queue import LifoQueue
from typing import IO

from lrm_safety import observe
from lrm_safety.errors import Unavailable

WORKERS = 2
CPU_S = 4.0  # for one pair; ordinary ones take hundredths
_WORKER = Path(__file__).with_name("math_worker.py")
_START_S = 180.0  # importing sympy on a machine that is busy with other things
_ANSWER_S = 120.0  # wall time; far beyond the worker's own limit on processor time

log = observe.logger(__name__)


class MathPool:
    """Compares pairs of answers in child processes. Threads may share it; each call holds one worker."""

    def __init__(self, workers: int = WORKERS, cpu_s: float = CPU_S) -> None:
        self._cpu_s = cpu_s
        self._idle: LifoQueue[_Worker | None] = LifoQueue()  # last in first out: a warm worker before a cold one
        for _ in range(workers):
            self._idle.put(None)

    def compare(self, gold: str, answer: str) -> str:
        """equal | different | gold (it cannot be parsed) | timeout | memory | too deep | worker died.

        Raises Unavailable when no worker starts (math-verify is not installed, no memory for a process).
        """
        worker = self._idle.get()
        try:
            if worker is None or not worker.is_alive():
                worker = _Worker(self._cpu_s)
            return worker.compare(gold, answer)
        finally:
            self._idle.put(worker)

    def close(self) -> None:
        """Ends the idle workers; the pool can be used again."""
        for _ in range(self._idle.qsize()):
            worker = self._idle.get()
            if worker is not None:
                worker.end()
            self._idle.put(None)


class _Worker:
    def __init__(self, cpu_s: float) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_WORKER), str(cpu_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "0"},  # no secrets, no chance
        )
        self._unread = b""
        if self._reply(_START_S) != "ready":
            self.end()
            raise Unavailable(
                f"no math worker starts with {sys.executable}; `pip install math-verify` there, and retry"
            )

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def compare(self, gold: str, answer: str) -> str:
        line = json.dumps({"gold": gold, "answer": answer}) + "\n"
        try:
            self._to_worker().write(line.encode())
            self._to_worker().flush()
        except BrokenPipeError:
            return self._death()
        return self._reply(_ANSWER_S)

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _reply(self, timeout_s: float) -> str:
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._unread:
            ready, _, _ = select.select([self._from_worker()], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                self.end()
                return "timeout"
            chunk = os.read(self._from_worker(), 65536)
            if not chunk:
                return self._death()
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        reply = json.loads(line)
        if reply["leaving"]:
            self._process.wait()
        return str(reply["outcome"])

    def _death(self) -> str:
        self.end()
        code = self._process.returncode
        log.info("math_worker_died", code=code)
        return "timeout" if code == -signal.SIGXCPU else "worker died"

    def _to_worker(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    def _from_worker(self) -> int:
        assert self._process.stdout is not None
        return self._process.stdout.fileno()
