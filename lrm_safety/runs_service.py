"""The Runs service, mounted by every service that has runs. It reads the store, so any replica answers."""

import time
from collections.abc import Iterator

import grpc

from lrm_safety import costs
from lrm_safety.nouns import (
    CancelRunRequest,
    GetRunRequest,
    ListCostsRequest,
    ListCostsResponse,
    ListRunsRequest,
    ListRunsResponse,
    Run,
    WatchRunRequest,
    has_ended,
)
from lrm_safety.runs import RunHost
from lrm_safety.v1 import runs_pb2, runs_pb2_grpc

WATCH_S = 0.3
NAME = runs_pb2.DESCRIPTOR.services_by_name["Runs"].full_name


def add_runs(server: grpc.Server, host: RunHost) -> str:
    """Mounts it; returns its full name."""
    runs_pb2_grpc.add_RunsServicer_to_server(RunsServicer(host), server)
    return NAME


class RunsServicer(runs_pb2_grpc.RunsServicer):
    def __init__(self, host: RunHost) -> None:
        self._host = host

    def GetRun(self, request: GetRunRequest, context: grpc.ServicerContext) -> Run:
        return self._host.get(request.id)

    def ListRuns(self, request: ListRunsRequest, context: grpc.ServicerContext) -> ListRunsResponse:
        return ListRunsResponse(runs=self._host.list_runs(request.kind))

    def WatchRun(self, request: WatchRunRequest, context: grpc.ServicerContext) -> Iterator[Run]:
        """Ends early when this service stops; who watches asks again."""
        last = None
        while context.is_active() and not self._host.is_leaving:
            run = self._host.get(request.id)
            if run != last:
                yield run
            if has_ended(run):
                return
            last = run
            time.sleep(WATCH_S)

    def CancelRun(self, request: CancelRunRequest, context: grpc.ServicerContext) -> Run:
        run = self._host.get(request.id)
        if not has_ended(run):
            self._host.store.write(f"runs/{run.id}/cancel", b"")
        return run

    def ListCosts(self, request: ListCostsRequest, context: grpc.ServicerContext) -> ListCostsResponse:
        return ListCostsResponse(costs=costs.list_costs(self._host.store, request.team, request.since))
