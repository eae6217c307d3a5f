"""A real control plane on this machine: etcd, API server, controllers, scheduler, from programs built beforehand."""

import json
import os
import signal
import ssl
import subprocess
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

from tests.conftest import SHARED_DATA, free_ports

SCRIPTS = SHARED_DATA.parent / "tools" / "kubernetes"
PROGRAMS = Path(os.environ.get("LRM_TEST_KUBERNETES") or "~/.cache/lrm-safety/kubernetes").expanduser()
BINARIES = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
READY_WITHIN_S, STOPS_WITHIN_S = 60.0, 3.0
NO_PORTS = ("--port=0", "--secure-port=0")  # of their own: another control plane on this machine has them


def missing() -> str:
    """What to do to have it here; empty when it is."""
    if not SCRIPTS.exists():
        return "needs the shared folder's tools/kubernetes beside the checkout, or KUBECONFIG"
    if not all((PROGRAMS / name).exists() for name in BINARIES):
        return f"no Kubernetes in {PROGRAMS}; build it with: {SCRIPTS / 'build.sh'} {PROGRAMS} (about 12 minutes)"
    return ""


class ControlPlane:
    """Stopped by `stop`; `kubeconfig` is an administrator's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        port, etcd = _pair_of_ports()
        env = {**os.environ, "PORT": str(port), "EP": str(etcd), "CM_ARGS": " ".join(NO_PORTS)}
        subprocess.run([SCRIPTS / "start.sh", PROGRAMS, folder], env=env, check=True, capture_output=True, timeout=120)
        self.kubeconfig = folder / "admin.kubeconfig"
        with suppress(ProcessLookupError):  # it found its port taken, and has gone
            os.kill(self._pid("sched"), signal.SIGKILL)
        scheduler = [str(PROGRAMS / "kube-scheduler"), "--kubeconfig=sched.kubeconfig", "--leader-elect=false"]
        self._start("sched", [*scheduler, *NO_PORTS])

    def stop(self) -> None:
        pids = [int(path.read_text()) for path in self.folder.glob("*.pid")]
        subprocess.run([SCRIPTS / "stop.sh", self.folder], check=False, capture_output=True)
        until = time.monotonic() + STOPS_WITHIN_S
        for pid in pids:  # an API server that lost its etcd first would wait for it
            while _is_alive(pid):
                if time.monotonic() > until:
                    os.kill(pid, signal.SIGKILL)
                time.sleep(0.05)

    def kill_api(self) -> list[str]:
        """kill -9 of the API server, which is dead then; its command line, for `start_api`."""
        pid = self._pid("apiserver")
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]
        os.kill(pid, signal.SIGKILL)
        while _is_alive(pid):
            time.sleep(0.05)
        return command

    def start_api(self, command: list[str]) -> None:
        self._start("apiserver", command)
        until = time.monotonic() + READY_WITHIN_S
        while not self._is_ready():
            assert time.monotonic() < until, f"the API server did not come back; see {self.folder}/apiserver.log"
            if not _is_alive(self._pid("apiserver")):  # its port is still, or again, somebody else's
                self._start("apiserver", command)
            time.sleep(0.2)

    def _pid(self, name: str) -> int:
        return int((self.folder / f"{name}.pid").read_text())

    def _start(self, name: str, command: list[str]) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command, cwd=self.folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        (self.folder / f"{name}.pid").write_text(str(process.pid))

    def _is_ready(self) -> bool:
        config = json.loads(self.kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        context = ssl.create_default_context(cafile=cluster["certificate-authority"])
        context.load_cert_chain(user["client-certificate"], user["client-key"])
        try:
            with urllib.request.urlopen(f"{cluster['server']}/readyz", timeout=5, context=context) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def _is_alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] not in "ZX"


def _pair_of_ports() -> tuple[int, int]:
    """(for the API server, for etcd, which takes the next one too)."""
    while True:
        api, etcd = free_ports(2)
        if api != etcd + 1:
            return api, etcd
