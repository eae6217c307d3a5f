"""A kubelet's probes of a container: HTTP, TCP, gRPC health, a command."""

import http.client
import socket
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

Json = dict[str, Any]


def passes(probe: Json, container: Json, address: str, env: Mapping[str, str]) -> bool:
    timeout_s = float(probe.get("timeoutSeconds", 1))
    with suppress(OSError, http.client.HTTPException, subprocess.TimeoutExpired, grpc.RpcError):
        if ask := probe.get("httpGet"):
            connection = http.client.HTTPConnection(address, port_of(ask["port"], container), timeout=timeout_s)
            connection.request("GET", ask.get("path", "/"))
            return 200 <= connection.getresponse().status < 400
        if ask := probe.get("tcpSocket"):
            with socket.create_connection((address, port_of(ask["port"], container)), timeout_s):
                return True
        if ask := probe.get("grpc"):
            with grpc.insecure_channel(f"{address}:{port_of(ask['port'], container)}") as channel:
                wanted = health_pb2.HealthCheckRequest(service=ask.get("service", ""))
                check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]
                said = check(wanted, timeout=timeout_s)
                return bool(said.status == health_pb2.HealthCheckResponse.SERVING)
        if ask := probe.get("exec"):
            done = subprocess.run(
                ask["command"], env=dict(env), timeout=max(timeout_s, 10), check=False, capture_output=True
            )
            return done.returncode == 0
    return False


def port_of(port: int | str, container: Json) -> int:
    """Its number, where it is named."""
    named = {each.get("name"): each["containerPort"] for each in container.get("ports") or []}
    return int(named.get(port, port))
