"""`python -m services.certificates`: a CA of one's own, and a certificate a service and one for clients.

    … --release lrm --namespace ml   Secrets lrm-tls-ca, lrm-tls-<service>, lrm-tls-client: ca.crt, tls.crt, tls.key
    … --out FOLDER                   the same as folders of files: FOLDER/<service>, FOLDER/client, FOLDER/ca

Makes what is absent, renews what soon expires or fits no longer, and keeps the rest, so it may run at every upgrade.
"""

import argparse
import base64
import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lrm_safety import observe, tls
from lrm_safety.errors import Conflict, LrmError, NotFound
from lrm_safety.settings import SERVICES, Settings

CA = "ca"
CA_DAYS = 3650
SKEW = timedelta(hours=1)  # clocks differ
Files = Mapping[str, bytes]
log = observe.logger(__name__)


class Shelf(Protocol):
    """Where certificates lie, by name: `ca`, a service, `client`, or the name of a Secret."""

    def read(self, name: str) -> Files | None: ...

    def create(self, name: str, files: Files) -> Files:
        """What is there afterwards: of several who create at once, one wins."""

    def replace(self, name: str, files: Files) -> None: ...


@dataclass(frozen=True)
class Wanted:
    """What the certificates of one release are to be."""

    release: str
    namespace: str
    days: int = 365
    renew_days: int = 30

    def server_names(self, holder: str) -> list[str]:
        """Names under which clients reach the holder; `localhost` also serves port-forwards and probes."""
        if holder not in SERVICES:
            return ["localhost"]
        name = f"{self.release}-{holder}"
        domains = ["", f".{self.namespace}", f".{self.namespace}.svc", f".{self.namespace}.svc.cluster.local"]
        return ["localhost", *(name + domain for domain in domains)]


@dataclass(frozen=True)
class Signer:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def read(cls, files: Files) -> "Signer":
        key = serialization.load_pem_private_key(files["tls.key"], None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise Conflict("the CA's key is not of the kind made here; remove the CA, and a new one is made")
        return cls(x509.load_pem_x509_certificate(files["tls.crt"]), key)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 everything is there, 1 something could not be made."""
    options = _options(arguments)
    try:
        settings = Settings.from_env()
        observe.configure(settings)
        wanted = Wanted(options.release, options.namespace, options.days, options.renew_days)
        shelf: Shelf = Folders(options.out) if options.out else Secrets(settings, wanted)
        if not options.keys_only:
            ensure(shelf, wanted, datetime.now(UTC))
        if options.store_secret:
            ensure_store_keys(shelf, options.store_secret)
    except LrmError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def ensure(shelf: Shelf, wanted: Wanted, now: datetime) -> list[str]:
    """Makes and renews; returns the holders whose certificates are new. Raises Conflict when the CA soon expires."""
    ca = Signer.read(shelf.read(CA) or shelf.create(CA, make_ca(wanted.release, now)))
    if ca.certificate.not_valid_after_utc < now + timedelta(days=wanted.renew_days):
        raise Conflict(
            f"the CA of {wanted.release} expires on {ca.certificate.not_valid_after_utc:%Y-%m-%d}; remove it and ask "
            "again: everything is made anew, and for a minute the services do not accept each other"
        )
    made = []
    for holder in (*SERVICES, tls.CLIENT):
        there = shelf.read(holder)
        if there is not None and fits(there, ca.certificate, wanted, holder, now):
            continue
        files = make_leaf(ca, wanted, holder, now)
        if there is None:
            shelf.create(holder, files)
        else:
            shelf.replace(holder, files)
        made.append(holder)
        log.info("certificate_made", holder=holder, days=wanted.days, is_renewal=there is not None)
    return made


def ensure_store_keys(shelf: Shelf, name: str) -> None:
    """Random keys for an object store that is set up with them; those that are there stay."""
    if shelf.read(name) is None:
        keys = {"LRM_S3_ACCESS_KEY": secrets.token_hex(10), "LRM_S3_SECRET_KEY": secrets.token_urlsafe(30)}
        shelf.create(name, {key: value.encode() for key, value in keys.items()})
        log.info("store_keys_made", secret=name)


def make_ca(release: str, now: datetime) -> Files:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"{release} CA")
    builder = _builder(name, name, key, now, now + timedelta(days=CA_DAYS))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
    certificate = builder.sign(key, hashes.SHA256())
    return {"ca.crt": _pem(certificate), "tls.crt": _pem(certificate), "tls.key": _key_pem(key)}


def make_leaf(ca: Signer, wanted: Wanted, holder: str, now: datetime) -> Files:
    """For both ends of a connection: a service serves, and asks others."""
    key = ec.generate_private_key(ec.SECP256R1())
    end = min(now + timedelta(days=wanted.days), ca.certificate.not_valid_after_utc)
    names = [x509.DNSName(name) for name in wanted.server_names(holder)]
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key())
    builder = _builder(_name(holder), ca.certificate.subject, key, now, end)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(both), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    builder = builder.add_extension(issuer_key, critical=False)
    certificate = builder.sign(ca.key, hashes.SHA256())
    return {"ca.crt": _pem(ca.certificate), "tls.crt": _pem(certificate), "tls.key": _key_pem(key)}


def fits(files: Files, ca: x509.Certificate, wanted: Wanted, holder: str, now: datetime) -> bool:
    """Whether a certificate may stay: ours, of this CA, with these names, for long enough."""
    try:
        leaf = x509.load_pem_x509_certificate(files["tls.crt"])
        leaf.verify_directly_issued_by(ca)
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (KeyError, ValueError, InvalidSignature, x509.ExtensionNotFound):
        return False
    return (
        files.get("ca.crt") == _pem(ca)
        and leaf.subject == _name(holder)
        and set(wanted.server_names(holder)) == set(names.get_values_for_type(x509.DNSName))
        and leaf.not_valid_after_utc > now + timedelta(days=wanted.renew_days)
    )


class Folders:
    """A folder of files a name, for its owner's eyes only."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, name: str) -> Files | None:
        folder = self._root / name
        return {path.name: path.read_bytes() for path in folder.glob("[!.]*")} if folder.exists() else None

    def create(self, name: str, files: Files) -> Files:
        self.replace(name, files)
        return files

    def replace(self, name: str, files: Files) -> None:
        folder = self._root / name
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for file, data in files.items():
            part = folder / f".{file}"
            part.touch(mode=0o600)
            part.write_bytes(data)
            part.replace(folder / file)


class Secrets:
    """A Kubernetes Secret a name: <release>-tls-<name>, or the name itself for keys of a store."""

    def __init__(self, settings: Settings, wanted: Wanted) -> None:
        from lrm_safety.jobs.kube import Kube, Resource  # not where files are made

        self._release = wanted.release
        self._resource = Resource("api/v1", "secrets")
        self._kube = Kube(settings, wanted.namespace)

    def read(self, name: str) -> Files | None:
        try:
            return _decoded(self._kube.get(self._resource, self._name(name)))
        except NotFound:
            return None

    def create(self, name: str, files: Files) -> Files:
        labels = {"name": "lrm-safety", "instance": self._release, "managed-by": "lrm-safety"}
        metadata = {
            "name": self._name(name),
            "labels": {f"app.kubernetes.io/{key}": value for key, value in labels.items()},
        }
        kind = "kubernetes.io/tls" if "tls.crt" in files else "Opaque"
        secret = {"apiVersion": "v1", "kind": "Secret", "type": kind, "metadata": metadata, "data": _encoded(files)}
        return _decoded(self._kube.create(self._resource, secret))

    def replace(self, name: str, files: Files) -> None:
        self._kube.patch(self._resource, self._name(name), {"data": _encoded(files)})

    def _name(self, name: str) -> str:
        return f"{self._release}-tls-{name}" if name in (*SERVICES, tls.CLIENT, CA) else name


def _encoded(files: Files) -> dict[str, str]:
    return {name: base64.b64encode(data).decode() for name, data in files.items()}


def _decoded(secret: Mapping[str, Any]) -> Files:
    return {name: base64.b64decode(data) for name, data in (secret.get("data") or {}).items()}


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, start: datetime, end: datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number(), start - SKEW, end)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)


def _key_usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m services.certificates", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--release", default="lrm-safety", help="what the names of the services start with")
    parser.add_argument("--namespace", default="default", help="that of the release")
    parser.add_argument("--days", type=int, default=365, help="validity of a certificate")
    parser.add_argument("--renew-days", type=int, default=30, help="renew what expires sooner than that")
    parser.add_argument("--out", type=Path, help="write folders of files there, instead of Secrets")
    parser.add_argument("--store-secret", default="", help="make a Secret of this name with random S3 keys, if absent")
    parser.add_argument("--keys-only", action="store_true", help="no certificates: somebody else makes them")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
