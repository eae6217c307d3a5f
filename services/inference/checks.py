"""What may be deployed, and what a name may be given to."""

import re

from lrm_safety import thinking
from lrm_safety.errors import Conflict, InvalidInput
from lrm_safety.nouns import DeployRequest, Endpoint, EngineSpec
from services.inference.engine import model_names
from services.inference.states import IDLE

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def check(request: DeployRequest) -> None:
    """Raises InvalidInput for what makes no sense."""
    if not NAME.fullmatch(request.name):
        raise InvalidInput(f"endpoint name {request.name!r}: expected letters, digits, '.', '_', '-', at most 100")
    if bool(request.url) == bool(request.checkpoint):
        raise InvalidInput("give either a checkpoint to serve or the url of a server that runs already")
    if request.url and not re.match(r"https?://[^/\s]+", request.url):
        raise InvalidInput(f"url {request.url!r}: expected http://… or https://…, ending in /v1")
    if request.think_style:
        thinking.split("", style=request.think_style)
    for field in ("replicas", "max_model_tokens", "max_sequences"):
        if getattr(request.engine, field) < 0:
            raise InvalidInput(f"engine.{field} is {getattr(request.engine, field)}; expected 1 or more, 0 = default")


def check_same(before: Endpoint, digest: str, spec: EngineSpec) -> None:
    """Raises Conflict where it does not serve the same, or not as asked for; an idle one starts anew, so as asked."""
    if before.weights_digest != digest or spec.engine not in ("", "auto", before.engine):
        raise taken(before)
    for field in ("replicas", "node_pool", "max_model_tokens", "max_sequences"):
        asked, has = getattr(spec, field), getattr(before.spec, field)
        if before.state != IDLE and before.HasField("spec") and asked and asked != has:
            name = before.name
            raise Conflict(
                f"endpoint {name} runs with {field} {has or 'left out'}; `lrm retire {name}`, then deploy it"
            )


def taken(before: Endpoint) -> Conflict:
    serves = before.checkpoint or before.url
    name = before.name
    return Conflict(
        f"endpoint {name} serves {serves} by {before.engine}; `lrm retire {name}` first, or take another name"
    )


def only_model(url: str, text: str) -> str:
    """The model of a server that lists one. Raises InvalidInput."""
    names = model_names(text)
    if len(names) != 1:
        raise InvalidInput(f"{url} serves {', '.join(names) or 'no model that it lists'}; say which with --model")
    return names[0]
