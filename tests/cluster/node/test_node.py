"""The whole platform through its chart on a real kubelet: README.md beside this file says what runs there and how.

`make test-node` builds the images and sets LRM_TEST_NODE; without it everything here skips.
"""

import json
import logging
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.control_plane import PROGRAMS, SCRIPTS, missing

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
HELM, KUBECTL = ROOT / ".venv/bin/helm", ROOT / ".venv/bin/kubectl"
log = logging.getLogger(__name__)
SERVICES = ("data", "trainer", "inference", "judge", "bench")
SAMPLES = 144  # of the recipe, for each of its two models
INSTALL_S, RUN_S = 900, 3600

# Runs in a pod of bench: every record that the measurements committed.
RECORDS = """
import collections, json
from lrm_safety.nouns import Record
from lrm_safety.runs import read_parts
from lrm_safety.settings import Settings
from lrm_safety.store import open_store
store = open_store(Settings.from_env())
runs = sorted({key.split("/")[1] for key in store.list("runs/bench-")})
keys = {run: collections.Counter(record.key for record in read_parts(store, run, Record)) for run in runs}
print(json.dumps({run: [len(counted), max(counted.values())] for run, counted in keys.items()}))
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(RUN_S + 2 * INSTALL_S)]


@dataclass(frozen=True)
class Node:
    state: Path

    def run(self, *command: str | Path, stdin: str = "", timeout_s: float = 120) -> str:
        """What a command says that sees the node's network and its administrator's credentials."""
        done = subprocess.run(
            [HERE / "in_node.sh", self.state, *command],
            input=stdin, capture_output=True, text=True, timeout=timeout_s, cwd=ROOT, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        return self.run(KUBECTL, "-n", "lrm", *arguments, stdin=stdin)

    def helm(self, *arguments: str | Path) -> str:
        return self.run(HELM, "-n", "lrm", *arguments, timeout_s=RUN_S)

    def items(self, kind: str, labels: str = "") -> list[dict[str, Any]]:
        return json.loads(self.kubectl("get", kind, "-l", labels, "-o", "json"))["items"]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A cluster of one node with our images in it, and a volume for the store."""
    if not os.environ.get("LRM_TEST_NODE"):
        pytest.skip("takes half an hour and root: make test-node")
    if reason := missing():
        pytest.skip(reason)
    made = Node(tmp_path_factory.mktemp("node"))
    try:
        subprocess.run([HERE / "start.sh", SCRIPTS, PROGRAMS, made.state], check=True, timeout=300)
        subprocess.run([HERE / "load.sh", made.state], check=True, timeout=1800)
        volume = made.state / "volume"
        volume.mkdir()
        volume.chmod(0o777)
        spec = {"capacity": {"storage": "5Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": str(volume)}}
        store = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "store"}, "spec": spec}
        made.run(KUBECTL, "create", "-f", "-", stdin=json.dumps(store))
        made.run(KUBECTL, "create", "namespace", "lrm")
        yield made
    finally:
        subprocess.run([HERE / "stop.sh", made.state], check=False, timeout=120)


@pytest.fixture(scope="module")
def release(node: Node) -> Node:
    begun = time.monotonic()
    node.helm("install", "lrm-safety", "helm/lrm-safety", *_values(), "--wait", "--timeout", f"{INSTALL_S}s")
    _say("installed, five services ready", begun)
    return node


def test_services_are_ready_and_confined(release: Node) -> None:
    for service in SERVICES:
        (pod,) = release.items("pods", f"app.kubernetes.io/component={service}")
        assert all(status["ready"] for status in pod["status"]["containerStatuses"])
        assert release.kubectl("exec", pod["metadata"]["name"], "--", "id", "-u").strip() == "10001"
        refused = release.kubectl("exec", pod["metadata"]["name"], "--", "sh", "-c", "touch /srv/lrm/x 2>&1 || true")
        assert "Read-only file system" in refused


def test_a_recipe_gets_its_verdict_through_an_upgrade(release: Node) -> None:
    begun = time.monotonic()
    test = [HELM, "-n", "lrm", "test", "lrm-safety", "--logs", "--timeout", f"{RUN_S}s"]
    suite = subprocess.Popen(
        [HERE / "in_node.sh", release.state, *test], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    _wait_for(release, suite, "measure trained: evaluate")
    _say("import, training, an engine, half of the measurements", begun)
    begun = time.monotonic()
    changed = ["--set", "logLevel=DEBUG", "--wait", "--timeout", f"{INSTALL_S}s"]
    release.helm("upgrade", "lrm-safety", "helm/lrm-safety", *_values(), *changed)
    _say("upgraded: every service is a new pod", begun)
    output, _ = suite.communicate(timeout=RUN_S)
    log.info(output[-6000:])
    assert suite.returncode == 0, output[-6000:]
    assert any(verdict in output for verdict in ("PASS ", "BLOCK ", "INCONCLUSIVE "))
    counted = json.loads(release.kubectl("exec", "-i", "deploy/lrm-safety-bench", "--", "python", "-", stdin=RECORDS))
    assert sorted(counted.values()) == [[SAMPLES, 1]] * 2


def test_the_training_was_a_job_and_the_engines_are_gone(release: Node) -> None:
    (training,) = release.items("jobs", "lrm-safety/kind=training")
    assert training["status"]["succeeded"] == 1
    _until(lambda: release.items("deployments", "lrm-safety/kind=engine") == [])


def test_an_uninstall_leaves_only_what_holds_data(release: Node) -> None:
    release.helm("uninstall", "lrm-safety", "--wait", "--timeout", f"{INSTALL_S}s")
    _until(lambda: release.items("pods", "app.kubernetes.io/instance=lrm-safety") == [])
    assert [claim["status"]["phase"] for claim in release.items("pvc")] == ["Bound"]


def _values() -> list[str | Path]:
    return ["-f", HERE / "values.yaml", "--set-file", f"test.recipe={HERE / 'recipe.yaml'}"]


def _wait_for(node: Node, suite: "subprocess.Popen[str]", words: str) -> None:
    """Until the suite's pod has said so."""
    end, said = time.monotonic() + RUN_S, ""
    while words not in said:
        assert suite.poll() is None, said[-4000:]
        assert time.monotonic() < end, said[-4000:]
        time.sleep(2)
        pods = node.items("pods", "app.kubernetes.io/component=test")
        if pods and pods[0]["status"]["phase"] != "Pending":
            said = node.kubectl("logs", pods[0]["metadata"]["name"])


def _until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 300
    while not is_so():
        assert time.monotonic() < end
        time.sleep(2)


def _say(what: str, begun: float) -> None:
    log.info("%s: %.0f s", what, time.monotonic() - begun)
