"""Mutual TLS from one folder (LRM_TLS: ca.crt, tls.crt, tls.key), and who may ask whom.

A certificate's common name says who its holder is: one of the services, or `client`. Files may be replaced at any time,
as cert-manager, a Secret's mount or `python -m services.certificates` do: servers read them again for each handshake,
clients before a call; connections that are open live on.
"""

import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any

import grpc

from lrm_safety.errors import Denied, InvalidInput
from lrm_safety.settings import LOOPBACK, SERVICES, Settings

FILES = ("ca.crt", "tls.crt", "tls.key")
CLIENT = "client"  # people, CI, and the pipeline they start
MAY_ASK: Mapping[str, tuple[str, ...]] = {
    CLIENT: SERVICES,
    "bench": ("judge", "inference"),
    "data": ("judge", "inference", "bench"),
    "judge": ("inference",),
}
LOCAL_HOSTS = (*LOOPBACK, "[::1]")


@dataclass(frozen=True)
class Pems:
    ca: bytes
    certificate: bytes
    key: bytes

    def expires_at(self) -> float:
        """Seconds since 1970."""
        from cryptography import x509  # only servers need it, and it takes a while to import

        certificate = x509.load_pem_x509_certificate(self.certificate)
        return certificate.not_valid_after_utc.astimezone(UTC).timestamp()


class Folder:
    """The certificates of this process as they are now."""

    def __init__(self, path: Path) -> None:
        """Raises InvalidInput when a file is missing, or key and certificate do not belong together."""
        self._path = path
        self._seen = self._stamps()
        self.pems = self._read()
        self._lock = threading.Lock()

    def renewed(self) -> bool:
        """Whether `pems` are others than at the last look. Files that do not fit (yet) are left for the next look."""
        with self._lock:
            try:
                stamps = self._stamps()
                if stamps == self._seen:
                    return False
                pems = self._read()
                if stamps != self._stamps():
                    return False
            except InvalidInput:
                return False
            is_other = pems != self.pems
            self._seen, self.pems = stamps, pems
            return is_other

    def _read(self) -> Pems:
        try:
            pems = Pems(*((self._path / name).read_bytes() for name in FILES))
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_cert_chain(self._path / "tls.crt", self._path / "tls.key", password="")
            context.load_verify_locations(cadata=pems.ca.decode())
        except FileNotFoundError as error:
            raise self._missing(error) from None
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            reason = getattr(error, "reason", None) or type(error).__name__
            raise InvalidInput(
                f"LRM_TLS is {self._path}: its files cannot be used ({reason}); expected a CA, a certificate and the "
                "certificate's own key without a password, all PEM"
            ) from None
        return pems

    def _stamps(self) -> tuple[tuple[int, int], ...]:
        try:
            return tuple((stat.st_mtime_ns, stat.st_ino) for stat in ((self._path / name).stat() for name in FILES))
        except FileNotFoundError as error:
            raise self._missing(error) from None

    def _missing(self, error: FileNotFoundError) -> InvalidInput:
        return InvalidInput(
            f"LRM_TLS is {self._path}, where {Path(error.filename).name} is missing; expected {', '.join(FILES)} "
            "(`python -m services.certificates --out FOLDER` makes them)"
        )


def server_credentials(folder: Folder, on_renewal: Callable[[Pems], None]) -> grpc.ServerCredentials:
    """Clients without a certificate of the same CA are refused in the handshake."""

    def configuration() -> grpc.ServerCertificateConfiguration:
        pems = folder.pems
        return grpc.ssl_server_certificate_configuration([(pems.key, pems.certificate)], root_certificates=pems.ca)

    def fetch() -> Any:
        """None for those it has."""
        if not folder.renewed():
            return None
        on_renewal(folder.pems)
        return configuration()

    return grpc.dynamic_ssl_server_credentials(configuration(), fetch, require_client_authentication=True)


def open_channel(settings: Settings, address: str, options: Sequence[tuple[str, Any]] = ()) -> grpc.Channel:
    """A channel as LRM_TLS says. Raises InvalidInput for a folder that is of no use."""
    if settings.tls_dir is None:
        return grpc.insecure_channel(address, options=options)
    if address.rsplit(":", 1)[0] in LOCAL_HOSTS:  # a service on this machine, or behind a port-forward
        options = [*options, ("grpc.ssl_target_name_override", "localhost")]
    return _RenewingChannel(Folder(settings.tls_dir), address, options)


def caller(context: grpc.ServicerContext) -> str:
    """Whose certificate the caller has shown; empty on plain text."""
    shown: Mapping[str, Any] = context.auth_context() or {}
    names: Sequence[bytes] = shown.get("x509_common_name", ())
    return next((name.decode(errors="replace") for name in names), "")


def check_may_ask(who: str, service: str) -> None:
    """Raises Denied, saying who asked and who may."""
    if service not in MAY_ASK.get(who, ()):
        allowed = [name for name, services in MAY_ASK.items() if service in services]
        raise Denied(
            f"{who or 'a certificate without a name'} may not ask {service}; allowed: {', '.join(allowed)} "
            "(a certificate's common name says whose it is)"
        )


class _RenewingChannel(grpc.Channel):
    """A channel that shows the folder's present certificate. Calls under way keep the connection they have.

    It lies below an interceptor, which asks it for the method anew at each call.
    """

    def __init__(self, folder: Folder, address: str, options: Sequence[tuple[str, Any]]) -> None:
        self._folder, self._address, self._options = folder, address, options
        self._opened = [self._open()]  # the newest last; older ones may still carry streams
        self._lock = threading.Lock()

    def _open(self) -> grpc.Channel:
        pems = self._folder.pems
        credentials = grpc.ssl_channel_credentials(pems.ca, pems.key, pems.certificate)
        return grpc.secure_channel(self._address, credentials, options=self._options)

    def _current(self) -> grpc.Channel:
        with self._lock:
            if self._folder.renewed():
                self._opened.append(self._open())
            return self._opened[-1]

    def unary_unary(self, *args: Any, **options: Any) -> Any:
        return self._current().unary_unary(*args, **options)

    def unary_stream(self, *args: Any, **options: Any) -> Any:
        return self._current().unary_stream(*args, **options)

    def stream_unary(self, *args: Any, **options: Any) -> Any:
        return self._current().stream_unary(*args, **options)

    def stream_stream(self, *args: Any, **options: Any) -> Any:
        return self._current().stream_stream(*args, **options)

    def subscribe(self, callback: Any, try_to_connect: bool | None = False) -> None:
        self._current().subscribe(callback, try_to_connect=bool(try_to_connect))

    def unsubscribe(self, callback: Any) -> None:
        for channel in self._opened:
            channel.unsubscribe(callback)

    def close(self) -> None:
        for channel in self._opened:
            channel.close()

    def __enter__(self) -> "_RenewingChannel":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
