"""`python -m services.health <service>`: exit code 0 when that service, here, says SERVING; for probes of its pod.

It shows the service's own certificate (LRM_TLS). Exit codes: 0 serving, 1 not, 2 unknown name or wrong settings.
"""

import sys
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lrm_safety import tls
from lrm_safety.errors import LrmError
from lrm_safety.settings import SERVICES, Settings

TIMEOUT_S = 3.0
ANY_HOST = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # where we find what listens everywhere


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0] not in SERVICES:
        sys.stderr.write(f"expected one of {', '.join(SERVICES)}\n")
        return 2
    try:
        trouble = check(Settings.from_env(), arguments[0])
    except LrmError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if trouble:
        sys.stderr.write(f"{arguments[0]}: {trouble}\n")
    return 1 if trouble else 0


def check(settings: Settings, service: str) -> str:
    """Why the service of this machine cannot be asked; empty when it can."""
    port = settings.addresses[service].rsplit(":", 1)[-1]
    host = ANY_HOST.get(settings.host, settings.host)
    own_name = [("grpc.ssl_target_name_override", "localhost")]  # in its certificate, whatever address it listens on
    with tls.open_channel(settings, f"{host}:{port}", own_name) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
    serving = health_pb2.HealthCheckResponse.SERVING
    return "" if answer.status == serving else health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
