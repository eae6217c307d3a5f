"""A real control plane on this machine: etcd, API server, controllers, scheduler, from programs built beforehand."""

import json
import os
import signal
import ssl
import subprocess
import time
import urllib.request
from pathlib import Path

from tests.conftest import SHARED_DATA, free_ports

SCRIPTS = SHARED_DATA.parent / "tools" / "kubernetes"
PROGRAMS = Path(os.environ.get("LRM_TEST_KUBERNETES") or "~/.cache/lrm-safety/kubernetes").expanduser()
BINARIES = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
READY_WITHIN_S = 60.0


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
        env = {**os.environ, "PORT": str(port), "EP": str(etcd)}
        subprocess.run([SCRIPTS / "start.sh", PROGRAMS, folder], env=env, check=True, capture_output=True, timeout=120)
        self.kubeconfig = folder / "admin.kubeconfig"

    def stop(self) -> None:
        subprocess.run([SCRIPTS / "stop.sh", self.folder], check=False, capture_output=True)

    def kill_api(self) -> list[str]:
        """kill -9 of the API server; its command line, for `start_api`."""
        pid = int((self.folder / "apiserver.pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]
        os.kill(pid, signal.SIGKILL)
        return command

    def start_api(self, command: list[str]) -> None:
        with (self.folder / "apiserver.log").open("ab") as log:
            process = subprocess.Popen(
                command, cwd=self.folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        (self.folder / "apiserver.pid").write_text(str(process.pid))
        until = time.monotonic() + READY_WITHIN_S
        while not self._is_ready():
            assert time.monotonic() < until, f"the API server did not come back; see {self.folder}/apiserver.log"
            time.sleep(0.2)

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


def _pair_of_ports() -> tuple[int, int]:
    """(for the API server, for etcd, which takes the next one too)."""
    while True:
        api, etcd = free_ports(2)
        if api != etcd + 1:
            return api, etcd
