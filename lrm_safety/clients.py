"""Typed clients of the five services, made from Settings. Errors come back as the LrmErrors the service raised."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import grpc

from lrm_safety import tenancy, tls
from lrm_safety.errors import LrmError, Unavailable, from_status
from lrm_safety.settings import SERVICES, Settings
from lrm_safety.v1.bench_pb2_grpc import BenchServiceStub
from lrm_safety.v1.data_pb2_grpc import DataServiceStub
from lrm_safety.v1.inference_pb2_grpc import InferenceServiceStub
from lrm_safety.v1.judge_pb2_grpc import JudgeServiceStub
from lrm_safety.v1.runs_pb2_grpc import RunsStub
from lrm_safety.v1.trainer_pb2_grpc import TrainerServiceStub

T = TypeVar("T")
MESSAGE_BYTES = 64 * 1024 * 1024
RETRY_AFTER_S = (0.2, 0.5, 1.0)
AWAY_S, AWAY_HERE_S = 300.0, 20.0  # how long a service may be away: in a cluster it is started again, here it is not
_BROKEN_OFF = ("Socket closed", "Connection reset", "Stream removed", "GOAWAY", "Broken pipe")
KEEPALIVE = [  # a peer that vanished with its node, without a word, is noticed within a minute
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.http2.ping_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),
]
CHANNEL_OPTIONS = [
    *KEEPALIVE,
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.lb_policy_name", "round_robin"),  # a name may stand for several pods
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),  # by default a new pod under the old name is not seen for 30 s
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.enable_retries", 0),  # a stream that gRPC retries on a server that has died can wait for ever
]


class Clients:
    """One channel a service, opened when first used by gRPC itself."""

    def __init__(self, settings: Settings) -> None:
        self._addresses = settings.addresses
        tenant = _WithMetadata(tenancy.metadata(settings))
        self._channels = {
            name: grpc.intercept_channel(tls.open_channel(settings, settings.addresses[name], CHANNEL_OPTIONS), tenant)
            for name in SERVICES
        }
        self.data = DataServiceStub(self._channels["data"])
        self.trainer = TrainerServiceStub(self._channels["trainer"])
        self.inference = InferenceServiceStub(self._channels["inference"])
        self.judge = JudgeServiceStub(self._channels["judge"])
        self.bench = BenchServiceStub(self._channels["bench"])

    def runs(self, service: str) -> RunsStub:
        """The Runs service as `service` mounts it."""
        return RunsStub(self._channels[service])

    def patience_s(self, service: str) -> float:
        """How long to wait for a service that was there and is away."""
        return AWAY_HERE_S if self._addresses[service].rsplit(":", 1)[0] in tls.LOCAL_HOSTS else AWAY_S

    def close(self) -> None:
        for channel in self._channels.values():
            channel.close()


def rpc(
    method: Callable[..., T], request: Any, timeout_s: float = 60.0, retry_after_s: Sequence[float] = RETRY_AFTER_S
) -> T:
    """One unary call, tried again for a moment when nothing answers. Raises the LrmError the service raised."""
    for pause_s in retry_after_s:
        try:
            return method(request, timeout=timeout_s)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise _translated(error) from None
        time.sleep(pause_s)
    try:
        return method(request, timeout=timeout_s)
    except grpc.RpcError as error:
        raise _translated(error) from None


def rpc_stream(method: Callable[..., Any], request: Any, timeout_s: float | None = None) -> Iterator[Any]:
    """The answers of one server-streaming call, as they come. Leaving the loop early cancels the call."""
    yield from _answers(method(request, timeout=timeout_s))


class OpenCalls:
    """Streams of many threads that another thread may end, so that engines stop working for nobody."""

    def __init__(self) -> None:
        self._open: set[Any] = set()
        self._is_cancelled = False
        self._lock = threading.Lock()

    def stream(self, method: Callable[..., Any], request: Any) -> Iterator[Any]:
        """As rpc_stream. Raises Cancelled after `cancel`."""
        call = method(request)
        with self._lock:
            self._open.add(call)
            if self._is_cancelled:
                call.cancel()
        try:
            yield from _answers(call)
        finally:
            with self._lock:
                self._open.discard(call)

    def cancel(self) -> None:
        """Ends those that are open, and every one that is opened from now on."""
        with self._lock:
            self._is_cancelled = True
            calls = list(self._open)
        for call in calls:
            call.cancel()


class _WithMetadata(
    grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor, grpc.StreamUnaryClientInterceptor
):
    def __init__(self, metadata: list[tuple[str, str]]) -> None:
        self._metadata = metadata

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(self._with_metadata(details), request)

    def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(self._with_metadata(details), request)

    def intercept_stream_unary(self, continuation: Any, details: Any, requests: Any) -> Any:
        return continuation(self._with_metadata(details), requests)

    def _with_metadata(self, details: Any) -> Any:
        return details._replace(metadata=[*(details.metadata or []), *self._metadata])


def _answers(call: Any) -> Iterator[Any]:
    try:
        yield from call
    except grpc.RpcError as error:
        raise _translated(error) from None
    finally:
        call.cancel()


def _translated(error: grpc.RpcError) -> LrmError:
    code, details = error.code(), error.details() or ""
    if "handshake" in details.lower() or "CERTIFICATE" in details:
        return Unavailable(
            "the service and this client do not accept each other's certificates (another CA, expired, or a server "
            "name that the certificate lacks); check the folder LRM_TLS"
        )
    if "failed to connect" in details.lower():
        return Unavailable(
            "no service answers there; start them with `lrm up` (or check LRM_<SERVICE>_ADDR, and LRM_TLS if the "
            "services want a certificate)"
        )
    if any(words in details for words in _BROKEN_OFF):
        return Unavailable("the service went away in the middle of a call; ask again: work goes on where it stopped")
    return from_status(code, details)
