"""Endpoints that a run needs, ready: engines that died are deployed again, as they were."""

import time
from dataclasses import replace

from lrm_safety import observe
from lrm_safety.clients import Clients, rpc
from lrm_safety.errors import Conflict, Unavailable
from lrm_safety.nouns import DeployRequest, Endpoint, EndpointState, GetEndpointRequest
from lrm_safety.runs import OwnedRun
from lrm_safety.settings import Settings
from services.bench.plan import Plan

START_S = 900.0  # for an engine
POLL_S = 1.0
READY, IDLE = EndpointState.ENDPOINT_STATE_READY, EndpointState.ENDPOINT_STATE_IDLE
FAILED, RETIRED = EndpointState.ENDPOINT_STATE_FAILED, EndpointState.ENDPOINT_STATE_RETIRED
log = observe.logger(__name__)


def make_ready(run: OwnedRun, plan: Plan, clients: Clients, settings: Settings) -> None:
    """Every endpoint that the plan asks can be asked; dead ones are deployed again, as they were.

    Raises Conflict for one that was retired, Unavailable when an engine does not start.
    """
    asked = {judge.endpoint for suite in plan.suites for judge in suite.judges if judge.endpoint}
    for name in [plan.endpoint.name, *sorted(asked - {plan.endpoint.name})]:
        endpoint = rpc(clients.inference.GetEndpoint, GetEndpointRequest(name=name))
        if endpoint.state == FAILED and endpoint.checkpoint:
            endpoint = _deploy_again(endpoint, settings)
        _wait(run, endpoint, clients)


def _deploy_again(endpoint: Endpoint, settings: Settings) -> Endpoint:
    """For whom it was deployed at first."""
    log.warning("engine_deployed_again", endpoint=endpoint.name, error=endpoint.error)
    whose = endpoint.tenant
    request = DeployRequest(
        name=endpoint.name,
        checkpoint=endpoint.checkpoint,
        engine=endpoint.spec,
        think_style=endpoint.think_style,
    )
    clients = Clients(replace(settings, team=whose.team, priority=whose.priority, cost_centre=whose.cost_centre))
    try:
        return rpc(clients.inference.Deploy, request, timeout_s=300)
    finally:
        clients.close()


def _wait(run: OwnedRun, endpoint: Endpoint, clients: Clients) -> None:
    until = time.monotonic() + START_S
    name = endpoint.name
    while endpoint.state not in (READY, IDLE):  # an idle one wakes when it is asked
        run.check_cancelled()
        if endpoint.state == RETIRED:
            raise Conflict(f"endpoint {name} was retired; deploy it again, then ask again and the run goes on")
        if endpoint.state == FAILED or time.monotonic() > until:
            raise Unavailable(f"the engine of {name} does not start: {endpoint.error}")
        run.waiting(f"the engine of {name} starts{f': {endpoint.error}' if endpoint.error else ''}")
        time.sleep(POLL_S)
        endpoint = rpc(clients.inference.GetEndpoint, GetEndpointRequest(name=name))
