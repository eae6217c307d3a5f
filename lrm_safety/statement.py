"""Signed decisions: an in-toto Statement v1 (github.com/in-toto/attestation, spec/v1) in a DSSE envelope, ed25519.

The subject is the checkpoint: its name and its digest, which is the sha256 over the sha256 of its files. The predicate
says what was decided and on what: suite, judges, statistics, policy, numbers, waivers, runs.
"""

import hashlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]

from lrm_safety import __version__, artefacts, jsonl
from lrm_safety.errors import Corrupt, InvalidInput, NotFound
from lrm_safety.nouns import BenchSpec, Checkpoint, Decision, Gate, Outcome, RecipeOutcome, RoleDecision, Scorecard
from lrm_safety.store import ObjectStore

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://github.com/lrm-safety/lrm-safety/decision/v1"
FILE = "decision.dsse.json"


def is_ours(outcome: RecipeOutcome) -> bool:
    """Whether both sides were measured here, and the candidate from weights in the store: only that is signed."""
    cards = (outcome.candidate, outcome.baseline)
    return "@" in outcome.candidate.checkpoint and not any(card.HasField("imported") for card in cards)


def sign(outcome: RecipeOutcome, key: Path) -> str:
    """The decision of an outcome with a candidate, as an envelope in JSON. Raises NotFound and InvalidInput."""
    private = _read_private(key)
    payload = json.dumps(_statement(outcome), sort_keys=True).encode()
    envelope = Envelope(payload, PAYLOAD_TYPE, {})
    envelope.sign(CryptoSigner(private))
    return json.dumps(envelope.to_dict(), sort_keys=True)


def digest(text: str) -> str:
    """Of an envelope, byte for byte: what the Decision carries."""
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Verified:
    """A statement whose signature is good."""

    subject: str  # name@digest
    verdict: str
    predicate: dict[str, Any]


def verify(text: str, key: Path) -> Verified:
    """Checks form, payload type and signature. Raises Corrupt saying which is wrong."""
    public = SSlibKey.from_crypto(_read_public(key))
    try:
        envelope = Envelope.from_dict(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Corrupt(f"this is no DSSE envelope ({type(error).__name__}); expected a {FILE}") from None
    if envelope.payload_type != PAYLOAD_TYPE:
        raise Corrupt(f"the payload type is {envelope.payload_type!r}; expected {PAYLOAD_TYPE}")
    try:
        envelope.verify([public], 1)
    except VerificationError:
        raise Corrupt(
            f"the signature is not of the key {key}: it was signed with another, or changed since; do not trust it"
        ) from None
    return _read_statement(envelope.payload)


def check_subject(store: ObjectStore, subject: str) -> Checkpoint:
    """The store's manifest of the subject; its digest and every file's bytes are computed anew, and must be the same.

    Raises NotFound, and Corrupt naming the file.
    """
    found = artefacts.find(store, "checkpoints", Checkpoint, subject)
    if f"{found.name}@{found.digest}" != subject or artefacts.digest_of(found) != found.digest:
        raise Corrupt(f"the store's manifest of {subject} does not describe what was signed; import or train it again")
    for entry in found.files:
        if wrong := _wrong(store, f"checkpoints/{found.name}/{found.digest}/{entry.path}", entry.sha256):
            raise Corrupt(f"{subject}: {entry.path} {wrong}; do not ship it")
    return found


def _wrong(store: ObjectStore, key: str, sha256: str) -> str:
    """Reads the object: what a store says of it (`stat`) is what its writer said."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            etag = store.download(key, Path(folder) / "object")
        except NotFound:
            return "is missing"
        except Corrupt:
            etag = ""
    return "" if etag == sha256 else "has other bytes than were signed"


def check_decision(store: ObjectStore, text: str, found: Verified) -> bool:
    """Whether the store has the decision; then it must name this statement and say the same. Raises Corrupt."""
    key = f"runs/{found.predicate['runs']['decision']}/decision.json"
    if store.stat(key) is None:
        return False
    kept = jsonl.loads(Decision, store.read(key))
    if kept.statement_digest != digest(text) or _word(kept.outcome) != found.verdict:
        raise Corrupt(f"{key} is not the decision that was signed: it was made anew, or changed; do not trust it")
    return True


def _statement(outcome: RecipeOutcome) -> dict[str, Any]:
    card, decision = outcome.candidate, outcome.decision
    name, _, digest = card.checkpoint.partition("@")
    if not is_ours(outcome):
        raise InvalidInput(
            f"{card.run}: expected a checkpoint of the store, measured here like its baseline; no other is signed"
        )
    predicate = {
        "verdict": _word(decision.outcome),
        "reasons": list(decision.reasons),
        "roles": [_role(role) for role in decision.roles],
        "waivers": [jsonl.to_dict(waiver) for waiver in decision.waivers],
        "policy": {"digest": _policy_digest(decision.gate), "gate": jsonl.to_dict(decision.gate)},
        "suite": {
            "digest": _suite_digest(card),
            "benchmarks": [each.benchmark for each in card.spec.benchmarks],
            "inputs": list(card.inputs),
        },
        "judges": {f"{cell.benchmark}/{cell.judge}": cell.judge_digest for cell in card.cells},
        "statistics": {
            "method": decision.gate.method or "fixed",
            "claim": decision.gate.claim,
            "alpha": decision.gate.alpha,
            "history": list(decision.history),
        },
        "weights": {"candidate": card.weights_digest, "baseline": outcome.baseline.weights_digest},
        "baseline": outcome.baseline.checkpoint,
        "runs": {"decision": decision.run, "candidate": card.run, "baseline": outcome.baseline.run},
        "codeVersion": __version__,
        "decidedAt": decision.created_at,
    }
    subject = [{"name": name, "digest": {"sha256": digest}}]
    return {"_type": STATEMENT_TYPE, "subject": subject, "predicateType": PREDICATE_TYPE, "predicate": predicate}


def _role(role: RoleDecision) -> dict[str, Any]:
    found = role.comparison
    return {
        "role": role.role,
        "tier": role.tier or "required",
        "verdict": _word(role.outcome),
        "margin": role.margin,
        "pairs": found.pairs,
        "unpaired": found.unpaired,
        "worsening": found.difference,
        "interval": {"low": found.interval.low, "high": found.interval.high, "level": found.interval.level},
        "method": found.interval.method,
    }


def _word(outcome: "Outcome.ValueType") -> str:
    return Outcome.Name(outcome).removeprefix("OUTCOME_")


def _suite_digest(card: Scorecard) -> str:
    """Of what was asked, to the samples' own digests, whoever was asked."""
    suite = BenchSpec()
    suite.CopyFrom(card.spec)
    for field in ("endpoint", "baseline_run", "gate", "history"):
        suite.ClearField(field)
    return hashlib.sha256("\n".join([jsonl.canonical(suite).decode(), *card.inputs]).encode()).hexdigest()


def _policy_digest(gate: Gate) -> str:
    return hashlib.sha256(jsonl.canonical(gate)).hexdigest()


def _read_statement(payload: bytes) -> Verified:
    try:
        tree = json.loads(payload)
        (subject,) = tree["subject"]
        kinds = (tree["_type"], tree["predicateType"])
        verified = Verified(
            f"{subject['name']}@{subject['digest']['sha256']}", tree["predicate"]["verdict"], tree["predicate"]
        )
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"the signed statement cannot be read ({type(error).__name__})") from None
    if kinds != (STATEMENT_TYPE, PREDICATE_TYPE):
        raise Corrupt(f"the signed statement is a {kinds[1]!r}, not a decision; expected {PREDICATE_TYPE}")
    return verified


def _read_private(path: Path) -> Ed25519PrivateKey:
    key = _read(path, lambda data: load_pem_private_key(data, password=None))
    if not isinstance(key, Ed25519PrivateKey):
        raise InvalidInput(f"{path} holds no ed25519 private key; `openssl genpkey -algorithm ed25519` makes one")
    return key


def _read_public(path: Path) -> Ed25519PublicKey:
    key = _read(path, load_pem_public_key)
    if not isinstance(key, Ed25519PublicKey):
        raise InvalidInput(f"{path} holds no ed25519 public key; `openssl pkey -in key.pem -pubout` prints it")
    return key


def _read(path: Path, load: Any) -> Any:
    try:
        return load(path.read_bytes())
    except OSError as error:
        raise NotFound(f"the key {path} cannot be read ({error.strerror})") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InvalidInput(f"{path} is no PEM file of a key without a password; expected ed25519") from None
