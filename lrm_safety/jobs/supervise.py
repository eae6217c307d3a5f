"""The supervisor of one local job: `python -m lrm_safety.jobs.supervise <job folder>`.

One small process a job, in a session of its own, so that it survives whoever submitted the job. It waits for the job's
turn, runs the command in a process group of its own, passes SIGTERM on, kills what the command leaves behind, and
writes down how it ended. When the supervisor itself is killed, the kernel kills the command with it.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from lrm_safety.errors import LrmError
from lrm_safety.jobs import PYTHON, JobSpec, JobState
from lrm_safety.jobs.folder import Cancel, Ended, JobFolder, JobFolders, Running
from lrm_safety.jobs.processes import MARK, DieWithParent, Process, StopSignal, kill_marked
from lrm_safety.jobs.turn import wait_for_turn
from lrm_safety.settings import Settings, process_env
from lrm_safety.store import open_store

FOREVER_S = 24 * 3600.0  # of one wait; waits are repeated
CANNOT_START = 127  # the shell's exit code for it


def main(path: Path) -> None:
    folders = JobFolders(path.parent)
    job = folders[path.name]
    stop = StopSignal()
    me = Process.of(os.getpid())
    if me is None or not job.supervise(me):
        return  # another supervisor was quicker
    _release_whoever_started_us()
    if job.ended() is None:
        ended = _supervise(folders, job, stop)
        job.end(_with_log_stored(job, ended))


def port_is_taken(port: int) -> bool:
    """Whether somebody on this machine listens on the port, on any address."""
    try:
        if socket.has_dualstack_ipv6():
            socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True).close()
        else:
            socket.create_server(("", port)).close()
    except OSError:
        return True
    return False


def _release_whoever_started_us() -> None:
    """They wait for the end of our stdout: from here on the job is ours."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.close(nothing)


def _supervise(folders: JobFolders, job: JobFolder, stop: StopSignal) -> Ended:
    try:
        spec = job.spec()
        running = wait_for_turn(folders, job, stop)
        if running is None or spec is None:
            return Ended(JobState.CANCELLED, None, "cancelled before it started")
        if spec.port and port_is_taken(spec.port):
            return Ended(JobState.FAILED, None, f"port {spec.port} was taken by another process when its turn came")
        return _run(spec, job, running, stop)
    except LrmError as error:  # a full disk, say: the job ends, and its status says why
        return Ended(JobState.FAILED, None, str(error))


def _run(spec: JobSpec, job: JobFolder, running: Running, stop: StopSignal) -> Ended:
    program = [sys.executable, *spec.command[1:]] if spec.command[0] == PYTHON else spec.command
    devices = {"CUDA_VISIBLE_DEVICES": ",".join(running.gpus)}  # empty: it asked for none, so it sees none
    with job.log.open("ab") as log:
        try:
            child = subprocess.Popen(
                program,
                env=process_env({**devices, **spec.env, MARK: str(job.path)}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=DieWithParent(),  # noqa: PLW1509 - this process has one thread
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            return Ended(JobState.FAILED, CANNOT_START, f"{spec.command[0]} cannot be started: {error}")
    try:
        _wait(child, job, stop)
    finally:
        _signal_group(child, signal.SIGKILL)  # it may be a zombie by now: its group's id is still ours
        child.wait()
        kill_marked(str(job.path))
    return _ending(child.returncode, was_cancelled=stop.asked)


def _wait(child: "subprocess.Popen[bytes]", job: JobFolder, stop: StopSignal) -> None:
    """Until the child has ended, or had its grace after SIGTERM."""
    end = os.pidfd_open(child.pid)
    try:
        while not stop.asked:
            if stop.wait([end], FOREVER_S):
                return
        _signal_group(child, signal.SIGTERM)
        grace = job.cancel() or Cancel(grace_s=10.0)
        until = time.monotonic() + grace.grace_s
        while (left := until - time.monotonic()) > 0 and not stop.wait([end], left):
            pass
    finally:
        os.close(end)


def _signal_group(child: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.pid, number)


def _ending(returncode: int, was_cancelled: bool) -> Ended:
    code = returncode if returncode >= 0 else 128 - returncode
    if was_cancelled:
        return Ended(JobState.CANCELLED, code)
    if returncode < 0:
        return Ended(JobState.FAILED, code, f"killed by {_name(-returncode)}{_guess(-returncode)}")
    return Ended(JobState.FAILED if code else JobState.DONE, code)


def _name(number: int) -> str:
    return next((each.name for each in signal.Signals if each == number), f"signal {number}")


def _guess(number: int) -> str:
    return "; perhaps the machine ran out of memory: ask for more in memory_gib" if number == signal.SIGKILL else ""


def _with_log_stored(job: JobFolder, ended: Ended) -> Ended:
    try:
        job.store_log(open_store(Settings.from_env()))
    except LrmError as error:
        reason = f"{ended.reason}; " if ended.reason else ""
        return Ended(ended.state, ended.exit_code, f"{reason}its log is only in {job.log}: {error}")
    return ended


if __name__ == "__main__":
    main(Path(sys.argv[1]))
