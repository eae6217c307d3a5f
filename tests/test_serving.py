"""Serving: health, reflection, metrics, error mapping and graceful stop, the same for every service."""

import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from lrm_safety import serving
from lrm_safety.clients import Clients, rpc, rpc_stream
from lrm_safety.errors import Conflict, InvalidInput, LrmError, Unavailable
from lrm_safety.nouns import ListPluginsRequest, ListPluginsResponse, ScoreRequest, Verdict
from lrm_safety.settings import Settings
from lrm_safety.v1 import judge_pb2, judge_pb2_grpc
from tests.conftest import free_ports

NAME = judge_pb2.DESCRIPTOR.services_by_name["JudgeService"].full_name


class Judge(judge_pb2_grpc.JudgeServiceServicer):
    def ListPlugins(self, request: ListPluginsRequest, context: grpc.ServicerContext) -> ListPluginsResponse:
        if request.kind == "bad":
            raise InvalidInput("kind is 'bad'; expected judges")
        if request.kind == "broken":
            raise ZeroDivisionError("secret")
        return ListPluginsResponse()

    def Score(self, request: ScoreRequest, context: grpc.ServicerContext) -> Iterator[Verdict]:
        for item in request.items:
            if item.id == "bad":
                raise InvalidInput("bad item")
            time.sleep(0.2)
            yield Verdict(id=item.id)


def register(server: grpc.Server, settings: Settings) -> list[str]:
    judge_pb2_grpc.add_JudgeServiceServicer_to_server(Judge(), server)
    return [NAME]


@pytest.fixture
def up(serve: Callable[..., serving.Server]) -> serving.Server:
    return serve("judge", register)


def test_calls_are_spread_over_all_replicas_of_a_name(settings: Settings) -> None:
    asked: list[int] = []

    def counting(number: int) -> serving.Register:
        class Counting(Judge):
            def ListPlugins(self, request: ListPluginsRequest, context: grpc.ServicerContext) -> ListPluginsResponse:
                asked.append(number)
                return ListPluginsResponse()

        def add(server: grpc.Server, settings: Settings) -> list[str]:
            judge_pb2_grpc.add_JudgeServiceServicer_to_server(Counting(), server)
            return [NAME]

        return add

    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    replicas = [
        serving.start("judge", counting(number), replace(settings, addresses={**settings.addresses, "judge": address}))
        for number, address in enumerate(addresses)
    ]
    both = Clients(replace(settings, addresses={**settings.addresses, "judge": f"ipv4:{','.join(addresses)}"}))
    try:
        for _ in range(20):
            rpc(both.judge.ListPlugins, ListPluginsRequest())
    finally:
        both.close()
        for replica in replicas:
            replica.stop(0).wait()
    assert min(asked.count(0), asked.count(1)) >= 8


def test_errors_come_back_as_they_were_raised(up: serving.Server, clients: Clients) -> None:
    assert rpc(clients.judge.ListPlugins, ListPluginsRequest()) == ListPluginsResponse()
    with pytest.raises(InvalidInput, match="expected judges"):
        rpc(clients.judge.ListPlugins, ListPluginsRequest(kind="bad"))
    with pytest.raises(LrmError, match="judge failed in ListPlugins") as caught:
        rpc(clients.judge.ListPlugins, ListPluginsRequest(kind="broken"))
    assert "secret" not in str(caught.value)


def test_a_stream_gives_what_it_had_and_then_the_error(up: serving.Server, clients: Clients) -> None:
    got = []
    with pytest.raises(InvalidInput, match="bad item"):
        for verdict in rpc_stream(clients.judge.Score, ScoreRequest(items=[{"id": "a"}, {"id": "bad"}])):
            got.append(verdict.id)
    assert got == ["a"]


def test_nobody_there(clients: Clients) -> None:
    with pytest.raises(Unavailable, match="lrm up"):
        rpc(clients.judge.ListPlugins, ListPluginsRequest())


def test_health_and_reflection(up: serving.Server) -> None:
    with grpc.insecure_channel(f"localhost:{up.port}") as channel:
        check = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=NAME), timeout=5)
        assert check.status == health_pb2.HealthCheckResponse.SERVING
        assert NAME in ProtoReflectionDescriptorDatabase(channel).get_services()


def test_metrics_are_served(settings: Settings, clients: Clients) -> None:
    (port,) = free_ports(1)
    server = serving.start("judge", register, replace(settings, metrics_ports={"judge": port}))
    try:
        rpc(clients.judge.ListPlugins, ListPluginsRequest())
        text = urllib.request.urlopen(f"http://localhost:{port}/metrics", timeout=5).read().decode()
    finally:
        server.stop(0).wait()
    assert 'lrm_rpc_handled_total{code="OK",method="ListPlugins",service="judge"}' in text


def test_a_port_in_use_is_a_clear_error(settings: Settings) -> None:
    port = int(settings.addresses["judge"].rsplit(":", 1)[1])
    with socket.create_server(("127.0.0.1", port)), pytest.raises(Conflict, match="LRM_JUDGE_ADDR"):
        serving.start("judge", register, settings)


def test_stopping_lets_calls_in_flight_end(up: serving.Server, clients: Clients) -> None:
    got: list[str] = []
    items = [{"id": str(number)} for number in range(5)]

    def read() -> None:
        got.extend(verdict.id for verdict in rpc_stream(clients.judge.Score, ScoreRequest(items=items)))

    reader = threading.Thread(target=read)
    reader.start()
    time.sleep(0.3)
    up.stop(5).wait()
    reader.join(5)
    assert len(got) == 5
