"""For whom work is done: stated by the caller's settings, carried beside each request as gRPC metadata."""

import grpc

from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import Tenant
from lrm_safety.settings import Settings

PRIORITIES = ("urgent", "normal", "filler")
_FIELDS = ("team", "priority", "cost_centre")


def metadata(settings: Settings) -> list[tuple[str, str]]:
    """What a client sends with every call. Raises InvalidInput for a priority that does not exist."""
    if settings.priority not in ("", *PRIORITIES):
        raise InvalidInput(f"LRM_PRIORITY is {settings.priority!r}; expected one of {', '.join(PRIORITIES)}")
    values = ((_key(field), getattr(settings, field)) for field in _FIELDS)
    return [(key, value) for key, value in values if value]


def of(context: grpc.ServicerContext) -> Tenant:
    """Whose request this is; fields are empty that the caller left out."""
    sent = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
    return Tenant(**{field: sent.get(_key(field), "") for field in _FIELDS})


def _key(field: str) -> str:
    return f"lrm-{field.replace('_', '-')}"
