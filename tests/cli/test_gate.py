"""`lrm gate --checkpoint … --wait` as CI calls it (a process), `lrm verify` on what comes of it, `lrm policy`."""

import json
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from typer.testing import CliRunner

from lrm_safety import jsonl, serving
from lrm_safety.cli import app
from lrm_safety.errors import LrmError
from lrm_safety.nouns import Checkpoint, Policy
from lrm_safety.settings import Settings
from lrm_safety.store import ObjectStore
from services.bench import service
from services.data import service as data_service
from services.trainer import service as trainer_service
from tests.bench.conftest import harm_file  # noqa: F401
from tests.bench.gated import DeployingInference, gate_policy, named, publish
from tests.bench.scripted import ScriptedJudge
from tests.test_statement import make_keys

LRM = str(Path(sys.executable).parent / "lrm")
Lrm = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def policy(tmp_path: Path, harm_file: Callable[[int], str]) -> Path:  # noqa: F811
    path = tmp_path / "gate.yaml"
    path.write_text(yaml.safe_dump(jsonl.to_dict(gate_policy(harm_file(50)))))
    return path


@pytest.fixture
def lrm(
    settings: Settings,
    store: ObjectStore,
    serve: Callable[..., serving.Server],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Lrm:
    """The command, with services that sign."""
    private, _ = make_keys(tmp_path, "key")
    serve("inference", DeployingInference(store=store).register)
    serve("judge", ScriptedJudge().register)
    serve("data", data_service.register)
    serve("trainer", trainer_service.register)
    serve("bench", service.register, signing_key=private)

    for name, value in settings.to_env().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([LRM, *words], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)

    return call


def here(*words: str) -> tuple[int, str]:
    """The command in this process: its exit code, and what it printed or what was wrong."""
    done = CliRunner().invoke(app, words)
    if isinstance(done.exception, LrmError):
        return 3, str(done.exception)
    assert not isinstance(done.exception, Exception), done.exception
    return done.exit_code, done.stdout


@pytest.fixture
def base(store: ObjectStore, tmp_path: Path) -> Checkpoint:
    return publish(store, tmp_path / "base", "base", "good")


def test_ci_gets_a_verdict_it_can_act_on(
    lrm: Lrm, policy: Path, base: Checkpoint, store: ObjectStore, tmp_path: Path
) -> None:
    good = publish(store, tmp_path / "good", "tuned", "good, tuned", named(base))
    out = tmp_path / "verdict"
    done = lrm("gate", "--checkpoint", named(good), "--policy", str(policy), "--wait", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("PASS\n  harm: not worse")
    assert "gate:" in done.stderr  # progress
    suite = ElementTree.parse(out / "junit.xml").getroot()[0]
    assert suite.attrib | {"tests": "2", "failures": "0", "skipped": "0"} == suite.attrib
    assert {test.get("name") for test in suite} == {"verdict", "harm"}
    assert "PASS" in (out / "summary.md").read_text()
    verdict = json.loads((out / "verdict.json").read_text())
    assert (verdict["verdict"], verdict["candidate"]["checkpoint"]) == ("PASS", named(good))
    assert verdict["gate"]["statement_digest"] == sha256((out / "decision.dsse.json").read_bytes()).hexdigest()
    assert verdict["gate"]["statement_digest"] in (out / "summary.md").read_text()
    assert "trick number" not in "".join(file.read_text() for file in out.iterdir())  # no sample leaves
    _verified(verdict["run"], out, tmp_path, store, good)


def _verified(run: str, out: Path, keys: Path, store: ObjectStore, made: Checkpoint) -> None:
    public = str(keys / "key.pub")
    for what in (run, str(out / "decision.dsse.json")):
        code, said = here("verify", what, "--key", public, "--checkpoint", "tuned")
        assert code == 0, said
        assert named(made) in said and "PASS" in said and "as the store's decision says" in said
        assert "points (required)" in said
    assert json.loads(here("verify", run, "--key", public, "--json")[1])["verdict"] == "PASS"
    code, said = here("verify", run, "--key", public, "--checkpoint", "base")
    assert (code, "the decision is about tuned@" in said) == (3, True)
    make_keys(keys, "other")
    code, said = here("verify", run, "--key", str(keys / "other.pub"))
    assert (code, "signed with another" in said) == (3, True)
    kept = f"runs/{run}/decision.json"
    forged, before = json.loads(store.read(kept)), store.read(kept)
    for field, value in (("outcome", 2), ("statement_digest", "0" * 64)):
        store.write(kept, json.dumps({**forged, field: value}).encode())
        code, said = here("verify", run, "--key", public)
        assert (code, "is not the decision that was signed" in said) == (3, True)
    store.delete(kept)
    assert "this store has no decision" in here("verify", run, "--key", public)[1]
    store.write(kept, before)
    store.write(f"checkpoints/tuned/{made.digest}/model.safetensors", b"other weights")
    code, said = here("verify", run, "--key", public)
    assert (code, "has other bytes" in said) == (3, True)


def test_a_damaged_checkpoint_ends_with_1(
    lrm: Lrm, policy: Path, base: Checkpoint, store: ObjectStore, tmp_path: Path
) -> None:
    bad = publish(store, tmp_path / "bad", "tuned", "bad", named(base))
    code, said = here("gate", "--checkpoint", "tuned", "--policy", str(policy))
    assert code == 0
    asked = next(line for line in said.splitlines() if line.startswith("gate-"))
    out = tmp_path / "verdict"
    done = lrm("gate", "--checkpoint", named(bad), "--policy", str(policy), "--wait", "--out", str(out), "--json")
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["run"] == asked
    suite = ElementTree.parse(out / "junit.xml").getroot()[0]
    assert suite.get("failures") == "2"
    assert {failure.get("type") for failure in suite.iter("failure")} == {"BLOCK"}


def test_too_few_samples_end_with_2(
    lrm: Lrm,
    base: Checkpoint,
    store: ObjectStore,
    tmp_path: Path,
    harm_file: Callable[[int], str],  # noqa: F811
) -> None:
    publish(store, tmp_path / "good", "tuned", "good, tuned", named(base))
    asked: Policy = gate_policy(harm_file(4))
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(jsonl.to_dict(asked)))
    code, said = here("gate", "--checkpoint", "tuned", "--policy", str(path), "--wait")
    assert (code, "INCONCLUSIVE" in said) == (2, True)


def test_without_a_verdict_ci_is_told_why(
    lrm: Lrm, policy: Path, base: Checkpoint, store: ObjectStore, tmp_path: Path
) -> None:
    """The engine of the checkpoint fails; what an earlier gate left in the folder goes."""
    out = tmp_path / "verdict"
    out.mkdir()
    (out / "decision.dsse.json").write_text("of another checkpoint")
    bad = publish(store, tmp_path / "bad", "tuned", "broken", named(base))
    store.delete(f"checkpoints/tuned/{bad.digest}/model.safetensors")
    code, said = here("gate", "--checkpoint", named(bad), "--policy", str(policy), "--wait", "--out", str(out))
    assert code == 3
    suite = ElementTree.parse(out / "junit.xml").getroot()[0]
    assert (suite.get("name"), suite.get("tests"), suite.get("errors")) == (f"lrm-safety {named(bad)}", "1", "1")
    (error,) = suite.iter("error")
    assert error.get("message") == said
    assert json.loads((out / "verdict.json").read_text())["verdict"] == "ERROR"
    assert sorted(file.name for file in out.iterdir()) == ["junit.xml", "summary.md", "verdict.json"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("gate",), "expected --checkpoint with --policy, or two bench runs"),
        (("gate", "--checkpoint", "x"), "expected --checkpoint with --policy"),
        (("gate", "--checkpoint", "x", "--policy", "no.yaml"), "there is no policy no.yaml"),
        (("verify", "x", "--key", "no.pem"), "no run with a signed decision"),
    ],
)
def test_mistakes_say_what_to_do(
    words: tuple[str, ...], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LRM_STORE", f"file://{tmp_path}/store")
    code, said = here(*words)
    assert (code, says in said) == (3, True)


def test_policies_are_registered_and_listed(lrm: Lrm, policy: Path) -> None:
    code, said = here("policy", "add", str(policy))
    assert (code, "nightly: gates tuned*" in said) == (0, True)
    (listed,) = json.loads(lrm("policy", "list", "--json").stdout)
    assert (listed["name"], listed["gate"]["margins"]) == ("nightly", {"harm": 0.1})
    assert "strongreject" in here("policy", "list")[1]
