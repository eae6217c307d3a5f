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

RETIRE_S = 300.0  # what is in flight may end first, and a cluster takes its time


def add_to(app: typer.Typer) -> None:
    app.command("deploy", epilog="Example: lrm deploy base smollm2-135m-instruct")(deploy)
    app.command("retire", epilog="Example: lrm retire base")(retire)
    app.command("endpoints", epilog="Example: lrm endpoints --json")(endpoints)


def deploy(  # noqa: PLR0913, PLR0917  (a parameter is a flag)
    name: Annotated[str, typer.Argument(help="The endpoint's name.")],
    what: Annotated[str, typer.Argument(help="A checkpoint (name or name@digest), or the URL of a server (…/v1).")],
    model: Annotated[str, typer.Option(help="With a URL: the model's name there, if it serves several.")] = "",
    engine: Annotated[str, typer.Option(help="auto, vllm or transformers.")] = "auto",
    think_style: Annotated[str, typer.Option(help="How thinking is marked: auto, tags, opened, s1 or none.")] = "",
    replicas: Annotated[int, typer.Option(min=1, help="In a cluster: so many engines behind one endpoint.")] = 1,
    node_pool: Annotated[str, typer.Option(help="In a cluster: the pool of nodes to run on.")] = "",
    max_model_tokens: Annotated[int, typer.Option(min=0, help="Longest prompt and answer together; 0 = auto.")] = 0,
    max_sequences: Annotated[int, typer.Option(min=0, help="Most completions at once in an engine; 0 = auto.")] = 0,
    json: AsJson = False,
) -> None:
    """Serve a checkpoint, or register a URL; returns when it answers. Deploying an idle endpoint wakes it."""
    spec = EngineSpec(
        engine=engine,
        node_pool=node_pool,
        replicas=replicas if replicas > 1 else 0,
        max_model_tokens=max_model_tokens,
        max_sequences=max_sequences,
    )
    is_url = what.startswith(("http://", "https://"))
    request = DeployRequest(
        name=name,
        checkpoint="" if is_url else what,
        url=what if is_url else "",
        model=model,
        engine=spec,
        think_style=think_style,
    )
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
    """Stop serving, after what is in flight has had two minutes to end; the checkpoint stays."""
    with connected(Settings.from_env()) as clients:
        _show(rpc(clients.inference.Retire, RetireRequest(name=name), RETIRE_S), json)


def endpoints(json: AsJson = False) -> None:
    """List endpoints."""
    with connected(Settings.from_env()) as clients:
        found = rpc(clients.inference.ListEndpoints, ListEndpointsRequest()).endpoints
    if json:
        print_json(found)
        return
    rows = [(each.name, _state(each), each.engine, each.url, each.checkpoint[:50], each.error) for each in found]
    print_table(
        ("endpoint", "state", "engine", "url", "checkpoint", "why"), rows, "no endpoints; lrm deploy NAME makes one"
    )


def _show(endpoint: Endpoint, json: bool) -> None:
    if json:
        print_json(endpoint)
    else:
        errors.print(f"{endpoint.name} is {_state(endpoint)} {endpoint.url}", highlight=False)


def _state(endpoint: Endpoint) -> str:
    return EndpointState.Name(endpoint.state).removeprefix("ENDPOINT_STATE_").lower()
