"""lrm deploy, retire, endpoints: models behind OpenAI-compatible URLs."""

import time
from typing import Annotated

import typer

from lrm_safety.cli._live import LiveStages
from lrm_safety.cli._output import AsJson, errors, print_json, print_table
from lrm_safety.cli._services import connected
from lrm_safety.clients import rpc
from lrm_safety.errors import Unavailable
from lrm_safety.nouns import (
    DeployRequest,
    Endpoint,
    EndpointState,
    EngineSpec,
    GetEndpointRequest,
    ListEndpointsRequest,
    RetireRequest,
)
from lrm_safety.settings import Settings


def add_to(app: typer.Typer) -> None:
    app.command("deploy", epilog="Example: lrm deploy base --checkpoint smollm2-135m-instruct")(deploy)
    app.command("retire", epilog="Example: lrm retire base")(retire)
    app.command("endpoints", epilog="Example: lrm endpoints --json")(endpoints)


def deploy(
    name: Annotated[str, typer.Argument(help="The endpoint's name.")],
    checkpoint: Annotated[str, typer.Option(help="Serve this checkpoint: name or name@digest.")] = "",
    url: Annotated[str, typer.Option(help="Or register a running OpenAI-compatible server (…/v1).")] = "",
    model: Annotated[str, typer.Option(help="With --url: the model's name there.")] = "",
    engine: Annotated[str, typer.Option(help="auto, vllm or transformers.")] = "auto",
    json: AsJson = False,
) -> None:
    """Serve a checkpoint, or register a URL; returns when it answers."""
    request = DeployRequest(name=name, checkpoint=checkpoint, url=url, model=model, engine=EngineSpec(engine=engine))
    with connected(Settings.from_env()) as clients, LiveStages() as stages:
        endpoint = rpc(clients.inference.Deploy, request, timeout_s=300)
        while endpoint.state == EndpointState.ENDPOINT_STATE_STARTING:
            stages.engine(name, endpoint)
            time.sleep(0.5)
            endpoint = rpc(clients.inference.GetEndpoint, GetEndpointRequest(name=name))
    if endpoint.state != EndpointState.ENDPOINT_STATE_READY:
        raise Unavailable(f"{name} did not start: {endpoint.error}")
    _show(endpoint, json)


def retire(name: Annotated[str, typer.Argument(help="The endpoint's name.")], json: AsJson = False) -> None:
    """Stop serving; the checkpoint stays."""
    with connected(Settings.from_env()) as clients:
        _show(rpc(clients.inference.Retire, RetireRequest(name=name)), json)


def endpoints(json: AsJson = False) -> None:
    """List endpoints."""
    with connected(Settings.from_env()) as clients:
        found = rpc(clients.inference.ListEndpoints, ListEndpointsRequest()).endpoints
    if json:
        print_json(found)
        return
    rows = [(each.name, _state(each), each.engine, each.url, each.checkpoint[:50]) for each in found]
    print_table(("endpoint", "state", "engine", "url", "checkpoint"), rows, "no endpoints; lrm deploy NAME makes one")


def _show(endpoint: Endpoint, json: bool) -> None:
    if json:
        print_json(endpoint)
    else:
        errors.print(f"{endpoint.name} is {_state(endpoint)} {endpoint.url}", highlight=False)


def _state(endpoint: Endpoint) -> str:
    return EndpointState.Name(endpoint.state).removeprefix("ENDPOINT_STATE_").lower()
