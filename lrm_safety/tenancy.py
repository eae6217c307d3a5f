"""For whom work is done: stated by the caller's settings, carried beside each request as gRPC metadata."""

from dataclasses import replace

import grpc

from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import Tenant
from lrm_safety.settings import PRIORITIES, Settings

_FIELDS = ("team", "priority", "cost_centre")


def stated(settings: Settings, team: str, priority: str, cost_centre: str) -> Settings:
    """The settings of a client that says for whom it asks; what is empty stays. Raises what `metadata` raises."""
    said = replace(
        settings,
        team=team or settings.team,
        priority=priority or settings.priority,
        cost_centre=cost_centre or settings.cost_centre,
    )
    metadata(said)
    return said


def metadata(settings: Settings) -> list[tuple[str, str]]:
    """What a client sends with every call. Raises InvalidInput naming the field and what is allowed."""
    _check_priority(settings.priority)
    values = {field: getattr(settings, field) for field in _FIELDS}
    for field, value in values.items():
        if not (value.isascii() and value.isprintable()):
            raise InvalidInput(f"the {field} is {value!r}; expected printable ASCII, as it travels in headers")
    return [(_key(field), value) for field, value in values.items() if value]


def of(context: grpc.ServicerContext) -> Tenant:
    """Whose request this is; fields are empty that the caller left out. Raises InvalidInput as `metadata` does."""
    sent = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
    tenant = Tenant(**{field: sent.get(_key(field), "") for field in _FIELDS})
    _check_priority(tenant.priority)
    return tenant


def _check_priority(priority: str) -> None:
    if priority not in ("", *PRIORITIES):
        raise InvalidInput(f"the priority is {priority!r}; expected one of {', '.join(PRIORITIES)}")


def _key(field: str) -> str:
    return f"lrm-{field.replace('_', '-')}"
