"""Starts one gRPC server the way all five are started: health, reflection, metrics, error mapping, graceful stop."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from lrm_safety import observe, tenancy, tls
from lrm_safety.clients import KEEPALIVE, MESSAGE_BYTES
from lrm_safety.errors import Conflict, InvalidInput, LrmError
from lrm_safety.settings import Settings

log = observe.logger(__name__)
Register = Callable[[grpc.Server, Settings], list[str]]
Unary = Callable[[Any, Any], Any]
Stream = Callable[[Any, Any], Iterator[Any]]
_LAST: WeakKeyDictionary[grpc.Server, list[Callable[[], None]]] = WeakKeyDictionary()
RECONNECT_S = 120  # so old, a connection is asked to be made anew, and finds new replicas; its calls go on to their end
_THREADS = 128  # a streaming rpc holds one for its whole life
_CHANGES_NOTHING = ("Get", "List", "Read", "Watch", "Compare", "Generate", "Score")  # what other rpcs do is logged


class Server:
    """A running service: where it listens, and how it ends."""

    def __init__(self, name: str, server: grpc.Server, port: int, checks: health.HealthServicer, metrics: Any) -> None:
        self.name, self.port = name, port
        self._server, self._checks, self._metrics = server, checks, metrics

    def stop(self, grace_s: float = 10.0) -> threading.Event:
        """Says NOT_SERVING, takes no new calls, lets those in flight end; the event is set when all is quiet."""
        self._checks.enter_graceful_shutdown()
        if self._metrics is not None:
            self._metrics.shutdown()
            self._metrics.server_close()
        quiet, closed = self._server.stop(grace_s), threading.Event()

        def close() -> None:
            quiet.wait()
            for last in _LAST.pop(self._server, []):
                last()
            closed.set()

        threading.Thread(target=close, name=f"{self.name}-close").start()
        return closed

    def wait(self) -> None:
        self._server.wait_for_termination()


def at_stop(server: grpc.Server, last: Callable[[], None]) -> None:
    """To be done when the server has stopped and no call is in flight any more."""
    _LAST.setdefault(server, []).append(last)


def start(name: str, register: Register, settings: Settings) -> Server:
    """Raises Conflict when the service's port is taken, InvalidInput when others could reach it on plain text.

    Port 0 takes any free one.
    """
    server = grpc.server(
        ThreadPoolExecutor(_THREADS, thread_name_prefix=name),
        interceptors=[_Edge(name, is_tls=settings.tls_dir is not None)],
        options=[
            *KEEPALIVE,
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),  # more often is taken for an attack
            ("grpc.max_connection_age_ms", RECONNECT_S * 1000),
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", MESSAGE_BYTES),
            ("grpc.max_send_message_length", MESSAGE_BYTES),
        ],
    )
    checks = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    names = register(server, settings)
    reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    port = _bind(server, name, settings)
    metrics_port = settings.metrics_ports[name]
    metrics = observe.serve_metrics(metrics_port, settings.host) if metrics_port else None
    server.start()
    for served in ["", *names]:
        checks.set(served, health_pb2.HealthCheckResponse.SERVING)
    log.info("service_started", service=name, port=port, metrics_port=metrics_port)
    return Server(name, server, port, checks, metrics)


def _bind(server: grpc.Server, name: str, settings: Settings) -> int:
    wanted = settings.addresses[name].rsplit(":", 1)[-1]
    address = f"{settings.host}:{wanted}"
    credentials = _credentials(settings)
    try:
        return server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    except RuntimeError:
        raise Conflict(
            f"{name} cannot listen on {address}: the port is taken; stop what holds it (`lrm down` stops services of "
            f"ours) or set LRM_{name.upper()}_ADDR"
        ) from None


def _credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """None for plain text, which only this machine may see unless LRM_TLS says that it is meant."""
    if settings.tls_dir is not None:
        folder = tls.Folder(settings.tls_dir)
        _show_expiry(folder.pems)
        return tls.server_credentials(folder, _show_expiry)
    if settings.host not in tls.LOCAL_HOSTS and not settings.is_plain_text:
        raise InvalidInput(
            f"LRM_HOST is {settings.host}, where others could ask without showing who they are; set LRM_TLS to a "
            f"folder with {', '.join(tls.FILES)}, or to `none` where the network itself keeps others out"
        )
    return None


def _show_expiry(pems: tls.Pems) -> None:
    observe.gauge("lrm_certificate_expires_timestamp_seconds", pems.expires_at())


class _Edge(grpc.ServerInterceptor):
    """Where callers are checked, errors become statuses, and every rpc is counted and timed."""

    def __init__(self, service: str, is_tls: bool) -> None:
        self._service, self._is_tls = service, is_tls

    def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        handler = continuation(details)
        if handler is None or details.method.startswith("/grpc."):
            return handler
        method = details.method.rsplit("/", 1)[-1]
        if handler.request_streaming:
            return grpc.stream_unary_rpc_method_handler(
                self._unary(handler.stream_unary, method), handler.request_deserializer, handler.response_serializer
            )
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                self._stream(handler.unary_stream, method), handler.request_deserializer, handler.response_serializer
            )
        return grpc.unary_unary_rpc_method_handler(
            self._unary(handler.unary_unary, method), handler.request_deserializer, handler.response_serializer
        )

    def _unary(self, behaviour: Unary, method: str) -> Unary:
        def call(request: Any, context: grpc.ServicerContext) -> Any:
            with self._call(method, context):
                return behaviour(request, context)

        return call

    def _stream(self, behaviour: Stream, method: str) -> Stream:
        def call(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            with self._call(method, context):
                yield from behaviour(request, context)

        return call

    @contextmanager
    def _call(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        """Health and reflection do not come here: they are for all who have a certificate."""
        with _Call(self._service, method, context):
            who = tls.caller(context) if self._is_tls else ""
            if self._is_tls:
                tls.check_may_ask(who, self._service)
            if not method.startswith(_CHANGES_NOTHING):
                tenant = tenancy.of(context)
                log.info("rpc_asked", service=self._service, method=method, who=who, team=tenant.team)
            yield


class _Call:
    """One rpc: times it, counts it by status, maps its error."""

    def __init__(self, service: str, method: str, context: grpc.ServicerContext) -> None:
        self._service, self._method, self._context = service, method, context

    def __enter__(self) -> None:
        self._started = time.monotonic()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        status = _status(kind, error)
        observe.count("lrm_rpc_handled_total", service=self._service, method=self._method, code=status.name)
        observe.timing("lrm_rpc_seconds", time.monotonic() - self._started, service=self._service, method=self._method)
        if isinstance(error, LrmError):
            log.info("rpc_refused", service=self._service, method=self._method, code=status.name, error=str(error))
            self._context.abort(status, str(error))
        if isinstance(error, Exception) and status is grpc.StatusCode.INTERNAL:
            log.error("rpc_failed", service=self._service, method=self._method, exc_info=(kind, error, trace))
            what = f"{self._service} failed in {self._method} ({type(error).__name__})"
            self._context.abort(status, f"{what}; see its log")


def _status(kind: type[BaseException] | None, error: BaseException | None) -> grpc.StatusCode:
    if isinstance(error, LrmError):
        return error.status
    if kind is None or kind is GeneratorExit:
        return grpc.StatusCode.OK
    return grpc.StatusCode.INTERNAL
