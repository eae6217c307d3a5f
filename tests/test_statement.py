"""Signed decisions: what is signed, and every way of tampering is noticed."""

import base64
import copy
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from lrm_safety import artefacts, statement
from lrm_safety.errors import Corrupt, InvalidInput, NotFound
from lrm_safety.nouns import (
    BenchmarkSpec,
    BenchSpec,
    Cell,
    Checkpoint,
    Comparison,
    Decision,
    Gate,
    Interval,
    Outcome,
    RecipeOutcome,
    RoleDecision,
    Scorecard,
    Waiver,
)
from lrm_safety.settings import Settings
from lrm_safety.store import ObjectStore
from services.bench.outcomes import keep


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Made as the documentation says: openssl."""
    folder = tmp_path_factory.mktemp("keys")
    return make_keys(folder, "key")


def make_keys(folder: Path, name: str, algorithm: str = "ed25519") -> tuple[Path, Path]:
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    subprocess.run(["openssl", "genpkey", "-algorithm", algorithm, "-out", private], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
    return private, public


@pytest.fixture
def checkpoint(store: ObjectStore, tmp_path: Path) -> Checkpoint:
    folder = tmp_path / "weights"
    (folder / "sub").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "sub" / "config.json").write_text("{}")
    return artefacts.publish(store, "checkpoints", folder, Checkpoint(name="tuned"))


def an_outcome(checkpoint: str) -> RecipeOutcome:
    spec = BenchSpec(endpoint="tuned-1", benchmarks=[BenchmarkSpec(benchmark="demo_harm")])
    cells = [
        Cell(benchmark="demo_harm", judge="refusal", judge_digest="j1", n=40),
        Cell(benchmark="other", judge="refusal", judge_digest="j2", n=40),  # over another endpoint
    ]
    found = Comparison(pairs=40, difference=0.01, interval=Interval(low=-0.02, high=0.04, level=0.9, method="wilson"))
    made = RecipeOutcome(
        run="gate-1",
        candidate=Scorecard(run="bench-2", checkpoint=checkpoint, weights_digest="w2", cells=cells, spec=spec),
        baseline=Scorecard(run="bench-1", checkpoint="base@1", weights_digest="w1", spec=spec),
        decision=Decision(
            run="gate-1",
            outcome=Outcome.OUTCOME_PASS,
            gate=Gate(margins={"harm": 0.05}, alpha=0.05),
            roles=[RoleDecision(role="harm", outcome=Outcome.OUTCOME_PASS, margin=0.05, comparison=found)],
            waivers=[Waiver(what="reasoning", who="ada", why="known", until="2027-01-01")],
            created_at=5.0,
            history=["bench-0"],
        ),
    )
    return made


def signed(checkpoint: Checkpoint, keys: tuple[Path, Path]) -> str:
    return statement.sign(an_outcome(f"{checkpoint.name}@{checkpoint.digest}"), keys[0])


def test_what_is_signed(checkpoint: Checkpoint, keys: tuple[Path, Path]) -> None:
    text = signed(checkpoint, keys)
    found = statement.verify(text, keys[1])
    assert (found.subject, found.verdict) == (f"tuned@{checkpoint.digest}", "PASS")
    said = found.predicate
    assert said["roles"][0] | {"role": "harm", "pairs": 40, "worsening": 0.01, "margin": 0.05} == said["roles"][0]
    assert said["statistics"] == {"method": "fixed", "claim": "", "alpha": 0.05, "history": ["bench-0"]}
    assert said["judges"] == {"demo_harm/refusal": "j1", "other/refusal": "j2"}
    assert said["waivers"] == [{"what": "reasoning", "who": "ada", "why": "known", "until": "2027-01-01"}]
    assert said["runs"] == {"decision": "gate-1", "candidate": "bench-2", "baseline": "bench-1"}
    assert len(said["suite"]["digest"]) == len(said["policy"]["digest"]) == 64
    assert said["weights"] == {"candidate": "w2", "baseline": "w1"}
    tree = json.loads(base64.b64decode(json.loads(text)["payload"]))
    assert (tree["_type"], tree["subject"][0]["name"]) == ("https://in-toto.io/Statement/v1", "tuned")


def test_other_questions_are_another_suite(checkpoint: Checkpoint, keys: tuple[Path, Path]) -> None:
    suites = []
    for samples in ("s1", "s2"):
        outcome = an_outcome(f"tuned@{checkpoint.digest}")
        outcome.candidate.inputs.append(samples)
        suites.append(statement.verify(statement.sign(outcome, keys[0]), keys[1]).predicate["suite"])
    assert [suite["inputs"] for suite in suites] == [["s1"], ["s2"]]
    assert suites[0]["digest"] != suites[1]["digest"]


def test_the_signature_is_dsse(checkpoint: Checkpoint, keys: tuple[Path, Path], tmp_path: Path) -> None:
    """By an independent implementation: openssl over the pre-authentication encoding of the DSSE specification."""
    envelope = json.loads(signed(checkpoint, keys))
    payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"].encode()
    (tmp_path / "pae").write_bytes(b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload))
    (tmp_path / "sig").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", keys[1], "-rawin"]
    subprocess.run([*command, "-in", tmp_path / "pae", "-sigfile", tmp_path / "sig"], check=True, capture_output=True)


def test_tampering_is_noticed(checkpoint: Checkpoint, keys: tuple[Path, Path], tmp_path: Path) -> None:
    good = json.loads(signed(checkpoint, keys))
    tree = json.loads(base64.b64decode(good["payload"]))

    def changed(change: object, **fields: object) -> str:
        other = copy.deepcopy(tree)
        change(other)  # type: ignore[operator]
        payload = base64.b64encode(json.dumps(other, sort_keys=True).encode()).decode()
        return json.dumps({**good, "payload": payload, **fields})

    def same(other: dict) -> None: ...

    assert statement.verify(changed(same), keys[1]).verdict == "PASS"  # the re-made envelope itself is good
    flipped = changed(lambda other: other["predicate"].update(verdict="BLOCK"))
    moved = changed(lambda other: other["subject"][0]["digest"].update(sha256="0" * 64))
    renamed = changed(lambda other: other["subject"][0].update(name="other"))
    waived = changed(lambda other: other["predicate"].update(waivers=[]))
    unsigned = changed(same, signatures=[])
    for text in (flipped, moved, renamed, waived, unsigned):
        with pytest.raises(Corrupt, match="do not trust it"):
            statement.verify(text, keys[1])
    with pytest.raises(Corrupt, match="payload type"):
        statement.verify(changed(same, payloadType="text/plain"), keys[1])
    with pytest.raises(Corrupt, match="signed with another"):
        statement.verify(changed(same), make_keys(tmp_path, "other")[1])
    for text in ("{}", "nothing", "[]", json.dumps({**good, "payload": 5}), json.dumps({**good, "signatures": [{}]})):
        with pytest.raises(Corrupt, match="no DSSE envelope"):
            statement.verify(text, keys[1])


def test_keys_that_cannot_sign(checkpoint: Checkpoint, keys: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="cannot be read"):
        signed(checkpoint, (tmp_path / "none", keys[1]))
    with pytest.raises(InvalidInput, match="no PEM file"):
        signed(checkpoint, (keys[1], keys[1]))
    with pytest.raises(InvalidInput, match="no ed25519 private key"):
        signed(checkpoint, make_keys(tmp_path, "x", "x25519"))


def test_what_was_not_measured_here_is_not_signed(
    checkpoint: Checkpoint, keys: tuple[Path, Path], store: ObjectStore, settings: Settings
) -> None:
    """An import says itself which checkpoint it is about, and on what weights."""
    subject = f"tuned@{checkpoint.digest}"
    candidate, baseline, unserved = an_outcome(subject), an_outcome(subject), an_outcome("")
    candidate.candidate.imported.format = baseline.baseline.imported.format = "inspect"
    for outcome in (candidate, baseline, unserved):
        with pytest.raises(InvalidInput, match="no other is signed"):
            statement.sign(outcome, keys[0])
        keep(store, replace(settings, signing_key=keys[0]), outcome)
        assert not outcome.decision.statement_digest and store.stat("runs/gate-1/decision.dsse.json") is None
