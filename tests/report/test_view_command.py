"""`lrm view` as a process: it says where it is, serves, and ends cleanly on Ctrl-C; its index is a file of its own."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

from lrm_safety.store.files import FileStore
from tests.report.made_store import bench, put_bench

LRM = str(Path(sys.executable).parent / "lrm")


def test_it_serves_until_ctrl_c(tmp_path: Path) -> None:
    put_bench(FileStore(tmp_path / "store"), 1)
    before = sorted((tmp_path / "store" / "runs").rglob("*"))
    env = {**os.environ, "LRM_STORE": f"file://{tmp_path}/store", "LRM_STATE": f"{tmp_path}/state", "NO_COLOR": "1"}
    command = [LRM, "view", "--port", "0", "--json"]
    process = subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout
    said = "".join(process.stdout.readline() for _ in range(3))
    url = json.loads(said)["url"]
    with urllib.request.urlopen(f"{url}samples/{bench(1)}", timeout=30) as answer:
        assert answer.status == 200
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors.strip()) == (0, "ended")
    assert sorted((tmp_path / "store" / "runs").rglob("*")) == before, "it reads only"
    assert list((tmp_path / "state" / "view").rglob("*.sqlite"))
