"""What only the local runner has to withstand: killed supervisors, reused pids, foreign ports, a store that is away."""

import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from lrm_safety.errors import Conflict, InvalidInput
from lrm_safety.jobs import JobState, open_runner
from lrm_safety.jobs.folder import JobFolder, JobFolders
from lrm_safety.jobs.machine import gpu_ids
from lrm_safety.jobs.processes import Process
from lrm_safety.settings import Settings
from lrm_safety.store import open_store
from tests.conftest import free_ports
from tests.jobs.conftest import Machine, wait_until, working
from tests.jobs.test_contract import ALL_CPUS, FAMILY, SLEEP, family, is_alive


@pytest.fixture
def machine(settings: Settings) -> Iterator[Machine]:
    yield from working(settings)


def folder(machine: Machine, job_id: str) -> JobFolder:
    return JobFolders(machine.settings.state_dir / "jobs")[job_id]


def kill_supervisor(machine: Machine, job_id: str) -> Process:
    supervisor = folder(machine, job_id).supervisor()
    assert supervisor is not None
    os.kill(supervisor.pid, signal.SIGKILL)
    wait_until(lambda: not supervisor.is_alive())
    return supervisor


def test_a_killed_supervisor_takes_the_job_with_it_and_frees_its_room(machine: Machine):
    job = machine.submit([sys.executable, "-c", FAMILY, "stay"], cpus=ALL_CPUS)
    pids = family(machine, job)
    waiting = machine.submit("print('my turn')", cpus=ALL_CPUS)
    assert machine.runner.status(waiting).state is JobState.QUEUED
    supervisor = kill_supervisor(machine, job)
    assert machine.wait(waiting).state is JobState.DONE
    status = machine.runner.status(job)
    assert (status.state, status.exit_code) == (JobState.FAILED, None)
    assert f"the machine lost it: its supervisor (process {supervisor.pid}) died" in status.reason
    assert not any(is_alive(pid) for pid in pids)
    assert machine.runner.cancel(job).state is JobState.FAILED


def test_the_kernel_kills_the_command_of_a_killed_supervisor(machine: Machine):
    """At once, without anybody asking for the job's status, and whatever the command did to its environment."""
    program = [sys.executable, "-c", "import os, time; print('pid', os.getpid(), flush=True); time.sleep(300)"]
    job = machine.submit(["env", "-i", *program])
    pid = int(machine.wait_for_log(job, "pid").split()[1])
    assert is_alive(pid)
    kill_supervisor(machine, job)
    wait_until(lambda: not is_alive(pid))


def test_the_log_of_a_lost_job_is_stored_by_who_finds_it(machine: Machine):
    job = machine.submit("import time; print('so far', flush=True); time.sleep(300)")
    machine.wait_for_log(job, "so far")
    kill_supervisor(machine, job)
    assert machine.runner.status(job).state is JobState.FAILED
    assert open_store(machine.settings).read(f"jobs/{job}/log") == b"so far\n"


def test_a_supervisor_killed_while_its_job_waits(machine: Machine, tmp_path: Path):
    first = machine.submit(SLEEP, cpus=ALL_CPUS)
    machine.wait(first, JobState.RUNNING)
    second = machine.submit(["touch", str(tmp_path / "ran")], cpus=1)
    kill_supervisor(machine, second)
    assert machine.runner.status(second).state is JobState.FAILED
    machine.runner.cancel(first)
    assert not (tmp_path / "ran").exists()


def test_sigterm_to_the_supervisor_is_a_cancel(machine: Machine):
    job = machine.submit(SLEEP)
    machine.wait(job, JobState.RUNNING)
    supervisor = folder(machine, job).supervisor()
    assert supervisor is not None
    os.kill(supervisor.pid, signal.SIGTERM)
    status = machine.wait(job)
    assert (status.state, status.exit_code) == (JobState.CANCELLED, 128 + signal.SIGTERM)


def test_a_reused_pid_fools_nobody(machine: Machine):
    """A job whose supervisor's pid now belongs to another process (ours): it is lost, and we are not killed."""
    us = Process.of(os.getpid())
    assert us is not None
    for number, earlier in enumerate((replace(us, started=us.started - 1), replace(us, boot="another boot"))):
        spec = machine.spec(SLEEP, id=f"reused-{number}")
        job = folder(machine, spec.id)
        assert job.submit(spec)
        assert job.supervise(earlier)
        assert machine.runner.status(spec.id).state is JobState.FAILED
        assert machine.runner.cancel(spec.id).state is JobState.FAILED


def test_a_job_whose_submitter_died_before_it_had_a_supervisor(machine: Machine):
    for number, end in enumerate(("submitted again", "cancelled")):
        spec = machine.spec("print('ran')", id=f"orphan-{number}")
        assert folder(machine, spec.id).submit(spec)
        status = machine.runner.status(spec.id)
        assert (status.state, status.waiting) == (JobState.QUEUED, "nobody looks after it yet; submit it again")
        if end == "cancelled":
            assert machine.runner.cancel(spec.id).state is JobState.CANCELLED
            assert machine.runner.submit(spec).state is JobState.CANCELLED
        else:
            machine.runner.submit(spec)
            assert machine.wait(spec.id).state is JobState.DONE


def test_a_port_in_use_is_refused_by_name(machine: Machine):
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(Conflict, match=f"port {port} is in use"):
            machine.submit(SLEEP, port=port)


def test_a_port_taken_while_the_job_waited(machine: Machine):
    [port] = free_ports(1)
    first = machine.submit(SLEEP, cpus=ALL_CPUS)
    machine.wait(first, JobState.RUNNING)
    second = machine.submit(SLEEP, cpus=1, port=port)
    with closing(socket.create_server(("127.0.0.1", port))):
        machine.runner.cancel(first)
        status = machine.wait(second)
    assert status.state is JobState.FAILED
    assert f"port {port}" in status.reason


def test_a_store_that_is_away_does_not_change_how_the_job_ended(machine: Machine, tmp_path: Path):
    spec = machine.spec("import time; print('said', flush=True); time.sleep(300)")
    runner = open_runner(machine.settings)
    runner.submit(spec)
    machine.wait_for_log(spec.id, "said")
    store = tmp_path / "store"
    (store / ".tmp").rmdir()
    store.rmdir()
    store.write_text("a file where the store was")
    status = machine.runner.cancel(spec.id)
    assert (status.state, status.exit_code) == (JobState.CANCELLED, 128 + signal.SIGTERM)
    assert f"{folder(machine, spec.id).log}" in status.reason
    assert machine.runner.logs(spec.id) == "said"


def test_gpus_are_shared_out(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Two GPUs, as a stand-in for the driver's own program lists them."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho GPU-1111\necho GPU-2222\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    for module in ("machine", "turn"):
        monkeypatch.setattr(f"lrm_safety.jobs.{module}.gpu_ids", gpu_ids.__wrapped__)
    tells = "import os, time; print('sees', os.environ['CUDA_VISIBLE_DEVICES'], flush=True); time.sleep(300)"
    first, second, none = (machine.submit(tells, gpus=gpus) for gpus in (1, 1, 0))
    seen = [machine.wait_for_log(job, "sees").split()[1:] for job in (first, second, none)]
    assert sorted(seen[:2]) == [["GPU-1111"], ["GPU-2222"]]
    assert seen[2] == []
    third = machine.submit(tells, gpus=2)
    assert "for 2 gpus: 0 of 2 are free" in machine.runner.status(third).waiting
    with pytest.raises(InvalidInput, match="gpus is 3; this machine has 2"):
        machine.submit(tells, gpus=3)


def test_state_and_store_may_share_a_folder(settings: Settings, tmp_path: Path):
    machine = Machine(replace(settings, store=f"file://{tmp_path}/both", state_dir=tmp_path / "both"))
    job = machine.submit("print('said')")
    assert machine.wait(job).state is JobState.DONE
    assert machine.runner.logs(job) == "said"
    assert open_store(machine.settings).read(f"jobs/{job}/log") == b"said\n"


def test_job_folders_are_private(machine: Machine):
    assert (machine.settings.state_dir / "jobs").stat().st_mode & 0o077 == 0


def test_who_holds_what_it_waits_for_is_named(machine: Machine):
    first = machine.submit(SLEEP, cpus=ALL_CPUS)
    machine.wait(first, JobState.RUNNING)
    second = machine.submit("print('my turn')", cpus=1)
    small = machine.submit("print('I fit')", cpus=0)
    assert machine.wait(small).state is JobState.DONE
    status = machine.runner.status(second)
    assert status.state is JobState.QUEUED
    assert f"for 1 cpus: 0 of {ALL_CPUS} are free; held by {first} ({ALL_CPUS})" in status.waiting
    machine.runner.cancel(first)
    assert machine.wait(second).state is JobState.DONE
    assert machine.runner.logs(second) == "my turn"


def test_jobs_take_turns_in_the_order_of_their_submission(machine: Machine, tmp_path: Path):
    first = machine.submit(SLEEP, cpus=ALL_CPUS)
    machine.wait(first, JobState.RUNNING)
    said = tmp_path / "said"
    later = [machine.submit(f"open({str(said)!r}, 'a').write('{n} ')", cpus=ALL_CPUS) for n in range(3)]
    machine.runner.cancel(first)
    for job in later:
        assert machine.wait(job).state is JobState.DONE
    assert said.read_text() == "0 1 2 "


def test_memory_is_shared_out_too(machine: Machine):
    with pytest.raises(InvalidInput, match="memory_gib is 1e"):
        machine.submit(SLEEP, memory_gib=1e6)
    total = (os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")) / 2**30
    first = machine.submit(SLEEP, memory_gib=total * 0.6)
    second = machine.submit(SLEEP, memory_gib=total * 0.6)
    machine.wait(first, JobState.RUNNING)
    status = machine.runner.status(second)
    assert status.state is JobState.QUEUED
    assert "memory_gib" in status.waiting
    assert first in status.waiting


def test_more_cpus_than_there_are_means_all_of_them(machine: Machine):
    assert machine.wait(machine.submit("", cpus=10_000)).state is JobState.DONE


def test_a_port_belongs_to_one_server(machine: Machine):
    [port] = free_ports(1)
    serve = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(300)"
    job = machine.submit([sys.executable, "-c", serve, str(port)], port=port)
    with pytest.raises(Conflict, match=f"port {port}.*{job}"):
        machine.submit(SLEEP, port=port)


def test_one_machine_is_one_node(machine: Machine):
    with pytest.raises(InvalidInput, match="nodes is 2; the local runner has one machine"):
        machine.submit(SLEEP, nodes=2)
