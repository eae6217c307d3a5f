"""What every job runner promises, asked of each of them."""

import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from lrm_safety.errors import InvalidInput, NotFound
from lrm_safety.jobs import JobSpec, JobState, open_runner
from lrm_safety.store import open_store
from tests.conftest import free_ports
from tests.jobs.conftest import Machine, wait_until

ALL_CPUS = os.cpu_count()
SLEEP = ["sleep", "300"]
IGNORES_SIGTERM = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('ready', flush=True)
time.sleep(300)
"""
STOPS_IN_ORDER = """
import signal, sys, time
def stop(*_):
    print('checkpoint written', flush=True)
    sys.exit(7)
signal.signal(signal.SIGTERM, stop)
print('ready', flush=True)
time.sleep(300)
"""
FAMILY = """
import subprocess, sys, time
inside = subprocess.Popen(['sleep', '300'])
outside = subprocess.Popen(['sleep', '300'], start_new_session=True)
print('pids', inside.pid, outside.pid, flush=True)
if len(sys.argv) > 1:
    time.sleep(300)
"""


def family(machine: Machine, job_id: str) -> list[int]:
    """Pids of the two grandchildren that FAMILY started."""
    log = machine.wait_for_log(job_id, "pids")
    return [int(word) for word in log.split()[1:3]]


def is_alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] not in "ZX"


@pytest.mark.parametrize(
    ("program", "state", "code"),
    [
        ("", JobState.DONE, 0),
        ("raise SystemExit(3)", JobState.FAILED, 3),
        ("import os; os.kill(os.getpid(), 11)", JobState.FAILED, 128 + 11),
    ],
)
def test_exit_codes(machine: Machine, program: str, state: JobState, code: int):
    status = machine.wait(machine.submit(program))
    assert (status.state, status.exit_code) == (state, code)
    assert status.started_at > 0
    assert ("SIGSEGV" in status.reason) == (code > 128)


def test_a_command_that_does_not_exist(machine: Machine):
    status = machine.wait(machine.submit(["/nowhere/program"]))
    assert status.state is JobState.FAILED
    assert "/nowhere/program" in status.reason


def test_logs_are_followed_while_it_runs_and_kept_in_the_store(machine: Machine):
    program = "import sys, time; print('out', flush=True); print('err', file=sys.stderr, flush=True); time.sleep(300)"
    job = machine.submit(program)
    assert machine.wait_for_log(job, "err").splitlines() == ["out", "err"]
    machine.runner.cancel(job)
    assert open_store(machine.settings).read(f"jobs/{job}/log") == b"out\nerr\n"
    assert machine.runner.logs(job, tail=1) == "err"


def test_a_long_log_is_kept_by_its_end(machine: Machine):
    job = machine.submit("for n in range(12_000): print('line', n, 'x' * 1000)")
    machine.wait(job)
    kept = open_store(machine.settings).read(f"jobs/{job}/log")
    assert 9 << 20 < len(kept) <= 10 << 20
    assert kept.startswith(b"line ")
    assert kept.endswith(b"line 11999 " + b"x" * 1000 + b"\n")
    assert [line[:10] for line in machine.runner.logs(job, tail=2).splitlines()] == ["line 11998", "line 11999"]


def test_environment_of_a_job(machine: Machine):
    program = "import os; print(os.environ['MINE'], os.environ['LRM_STORE'], os.environ['PATH'])"
    job = machine.submit(program, env={"MINE": "42"})
    machine.wait(job)
    mine, store, path = machine.runner.logs(job).split()
    assert (mine, store) == ("42", machine.settings.store)
    assert path.endswith(os.environ["PATH"])


def test_cancel_lets_it_stop_in_order(machine: Machine):
    job = machine.submit(STOPS_IN_ORDER)
    machine.wait_for_log(job, "ready")
    status = machine.runner.cancel(job)
    assert (status.state, status.exit_code) == (JobState.CANCELLED, 7)
    assert "checkpoint written" in machine.runner.logs(job)


def test_cancel_makes_it_stop_when_it_does_not(machine: Machine):
    job = machine.submit(IGNORES_SIGTERM)
    machine.wait_for_log(job, "ready")
    status = machine.runner.cancel(job, grace_s=0.3)
    assert (status.state, status.exit_code) == (JobState.CANCELLED, 128 + signal.SIGKILL)


def test_cancel_of_what_has_ended_or_never_was(machine: Machine):
    job = machine.submit("")
    machine.wait(job)
    assert machine.runner.cancel(job).state is JobState.DONE
    for ask in (machine.runner.cancel, machine.runner.status, machine.runner.logs):
        for unknown in ("job-unknown", "../../etc"):
            with pytest.raises(NotFound, match=unknown):
                ask(unknown)


def test_cancel_by_several_at_once(machine: Machine):
    job = machine.submit(SLEEP)
    with ThreadPoolExecutor(4) as pool:
        states = {status.state for status in pool.map(lambda _: machine.runner.cancel(job), range(4))}
    assert states == {JobState.CANCELLED}


@pytest.mark.parametrize("end", ["by itself", "cancelled"])
def test_no_descendant_outlives_the_job(machine: Machine, end: str):
    job = machine.submit([sys.executable, "-c", FAMILY, *(["stay"] if end == "cancelled" else [])])
    pids = family(machine, job)
    if end == "cancelled":
        assert all(is_alive(pid) for pid in pids)
        machine.runner.cancel(job, grace_s=0.3)
    assert machine.wait(job).state is (JobState.CANCELLED if end == "cancelled" else JobState.DONE)
    assert not any(is_alive(pid) for pid in pids)


def test_submit_is_idempotent(machine: Machine):
    spec = machine.spec("print('ran')")
    machine.runner.submit(spec)
    machine.wait(spec.id)
    assert machine.runner.submit(spec).state is JobState.DONE
    assert machine.runner.logs(spec.id) == "ran"


def test_racing_submitters_start_one_job(machine: Machine, tmp_path: Path):
    spec = machine.spec(f"import os; os.open({str(tmp_path / 'ran')!r} + str(os.getpid()), os.O_CREAT)")
    runners = [open_runner(machine.settings) for _ in range(4)]
    start = threading.Barrier(4)

    def submit(number: int) -> None:
        start.wait()
        runners[number].submit(spec)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(submit, range(4)))
    assert machine.wait(spec.id).state is JobState.DONE
    assert len(list(tmp_path.glob("ran*"))) == 1


OWNER = """
import sys
from pathlib import Path
from lrm_safety.jobs import JobSpec, open_runner
from lrm_safety.settings import Settings
open_runner(Settings.from_env()).submit(JobSpec(id=sys.argv[1], command=sys.argv[2:], cpus=0, memory_gib=0))
print("submitted", flush=True)
sys.stdin.read()
"""


def test_a_job_survives_the_death_of_its_owner(machine: Machine, tmp_path: Path):
    spec = machine.spec(["sh", "-c", f"while [ ! -e {tmp_path}/go ]; do sleep 0.1; done; echo went on; exit 5"])
    env = {**os.environ, **machine.settings.to_env()}
    command = [sys.executable, "-c", OWNER, spec.id, *spec.command]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"submitted\n"
        owner.kill()
    machine.wait(spec.id, JobState.RUNNING)
    (tmp_path / "go").touch()
    assert machine.wait(spec.id).exit_code == 5
    assert machine.runner.logs(spec.id) == "went on"


def test_what_does_not_fit_waits_and_says_for_what(machine: Machine):
    first = machine.submit(SLEEP, cpus=ALL_CPUS)
    machine.wait(first, JobState.RUNNING)
    second = machine.submit("print('my turn')", cpus=1)
    small = machine.submit("print('I fit')", cpus=0)
    assert machine.wait(small).state is JobState.DONE
    wait_until(lambda: "for 1 cpu" in machine.runner.status(second).waiting)
    machine.runner.cancel(first)
    assert machine.wait(second).state is JobState.DONE
    assert machine.runner.logs(second) == "my turn"


def test_memory_is_shared_out_too(machine: Machine):
    with pytest.raises(InvalidInput, match="memory_gib is 1e"):
        machine.submit(SLEEP, memory_gib=1e6)
    most = machine.runner.machine().memory_gib * 0.6
    first = machine.submit(SLEEP, memory_gib=most)
    machine.wait(first, JobState.RUNNING)
    second = machine.submit(SLEEP, memory_gib=most)
    wait_until(lambda: "memory" in machine.runner.status(second).waiting)


def test_cancel_of_a_queued_job(machine: Machine, tmp_path: Path):
    first = machine.submit(SLEEP, cpus=ALL_CPUS)
    machine.wait(first, JobState.RUNNING)
    second = machine.submit(["touch", str(tmp_path / "ran")], cpus=1)
    status = machine.runner.cancel(second)
    assert (status.state, status.exit_code) == (JobState.CANCELLED, None)
    machine.runner.cancel(first)
    third = machine.submit("", cpus=ALL_CPUS)
    assert machine.wait(third).state is JobState.DONE
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("wishes", "says"),
    [
        ({"gpus": 10_000}, "gpus is 10000"),
        ({"cpus": -1}, "negative"),
        ({"port": 70_000}, "port is 70000"),
        ({"command": []}, "command is empty"),
        ({"id": "Upper_Case"}, "id is 'Upper_Case'"),
        ({"id": "x" * 64}, "at most 63"),
        ({"id": "../up"}, "a-z, 0-9"),
    ],
)
def test_jobs_that_are_refused(machine: Machine, wishes: dict[str, object], says: str):
    spec = JobSpec(**{"id": "refused", "command": ["true"], **wishes})
    with pytest.raises(InvalidInput, match=says):
        machine.runner.submit(spec)
    with pytest.raises(NotFound):
        machine.runner.status(spec.id)


SERVER = """
import http.server, sys
class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == '/health' else 404)
        self.end_headers()
http.server.HTTPServer(('', int(sys.argv[1])), Answers).serve_forever()
"""


def test_a_server_is_found_at_its_port(machine: Machine):
    [port] = free_ports(1)
    spec = machine.spec([sys.executable, "-c", SERVER, str(port)], port=port)
    machine.runner.submit(spec)

    def host() -> str:
        return next(iter(machine.runner.status(spec.id).hosts), "")

    wait_until(lambda: host() and answers(host(), port))
    assert machine.runner.submit(spec).state is JobState.RUNNING
    last = host()
    assert machine.runner.cancel(spec.id, grace_s=0).state is JobState.CANCELLED
    assert not answers(last, port)


def answers(host: str, port: int) -> bool:
    with closing(socket.socket()) as client:
        return client.connect_ex((host, port)) == 0
