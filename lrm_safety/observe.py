"""Logs with fields and Prometheus metrics, set up once per process. The only user of prometheus_client.

Logs go to stderr as one JSON object a line (or coloured lines on a terminal) and never hold model text.
Metric names: lrm_<noun>_<verb-past>_total, lrm_<noun>_<measure>_seconds, lrm_<noun>_<state>.
"""

import logging
import sys
from functools import cache
from typing import Any, TextIO, cast

import structlog
from prometheus_client import Counter, Gauge, Histogram, start_http_server

from lrm_safety.errors import Conflict
from lrm_safety.settings import Settings

_BUCKETS = (0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)


def configure(settings: Settings) -> None:
    """Called once by an entry point."""
    pretty = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer() if pretty else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(settings.log_level)),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Stderr())),
        cache_logger_on_first_use=True,
    )


def logger(name: str) -> Any:
    """A logger whose events carry the module's name: log.info("run_claimed", run=run.id, epoch=3)."""
    return structlog.get_logger(module=name)  # lazy: loggers are made at import, before `configure`


def count(name: str, **labels: str) -> None:
    """Adds one to the counter `name` (which ends in _total)."""
    metric = _counter(name, tuple(sorted(labels)))
    (metric.labels(**labels) if labels else metric).inc()


def add(name: str, amount: float, **labels: str) -> None:
    """Adds `amount` ≥ 0 to the counter `name`."""
    metric = _counter(name, tuple(sorted(labels)))
    (metric.labels(**labels) if labels else metric).inc(amount)


def timing(name: str, seconds: float, **labels: str) -> None:
    """Puts a duration into the histogram `name` (which ends in _seconds)."""
    metric = _histogram(name, tuple(sorted(labels)))
    (metric.labels(**labels) if labels else metric).observe(seconds)


def gauge(name: str, value: float, **labels: str) -> None:
    """Sets the gauge `name`."""
    metric = _gauge(name, tuple(sorted(labels)))
    (metric.labels(**labels) if labels else metric).set(value)


def serve_metrics(port: int, host: str) -> Any:
    """Serves /metrics over HTTP; the server's `shutdown()` ends it. Raises Conflict when the port is taken."""
    try:
        server, _ = start_http_server(port, addr=host)
    except OSError as error:
        raise Conflict(
            f"metrics port {port} is taken ({error.strerror}); set LRM_METRICS_PORT to another, or 0 for none"
        ) from error
    return server


class _Stderr:
    """What stderr is at the moment of writing: loggers are kept, streams come and go."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


@cache
def _counter(name: str, labels: tuple[str, ...]) -> Counter:
    return Counter(name, name.replace("_", " "), labels)


@cache
def _histogram(name: str, labels: tuple[str, ...]) -> Histogram:
    return Histogram(name, name.replace("_", " "), labels, buckets=_BUCKETS)


@cache
def _gauge(name: str, labels: tuple[str, ...]) -> Gauge:
    return Gauge(name, name.replace("_", " "), labels)
