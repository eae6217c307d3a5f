"""A gate as it is written down: checked, with its defaults filled in."""

from datetime import date

from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import ROLES, Gate, Waiver

ALPHA = 0.05
MAX_TRUNCATED = 0.1
FIXED, SEQUENTIAL = "fixed", "sequential"
WIDER, ITEMS = "wider", "items"


def resolve(gate: Gate) -> Gate:
    """The gate checked, its defaults written down. Raises InvalidInput naming the field."""
    done = Gate()
    done.CopyFrom(gate)
    done.alpha = done.alpha or ALPHA
    done.method = done.method or FIXED
    if done.method not in (FIXED, SEQUENTIAL):
        raise InvalidInput(f"gate.method is {done.method!r}; expected {FIXED} or {SEQUENTIAL}")
    if done.method == SEQUENTIAL:
        done.claim = done.claim or WIDER
    if done.claim not in (("", WIDER) if done.method == FIXED else (WIDER, ITEMS)):
        raise InvalidInput(f"gate.claim is {done.claim!r}; expected {WIDER}, or {ITEMS} with the method {SEQUENTIAL}")
    if done.last_look and (done.method, done.claim) != (SEQUENTIAL, WIDER):
        raise InvalidInput(
            f"gate.last_look is true; expected it with the method {SEQUENTIAL} and the claim {WIDER} only"
        )
    if not done.HasField("max_truncated"):
        done.max_truncated = MAX_TRUNCATED
    if not 0 < done.alpha < 0.5:
        raise InvalidInput(f"gate.alpha is {done.alpha}; expected a one-sided error rate between 0 and 0.5")
    _check_share("max_invalid", done.max_invalid)
    _check_share("max_truncated", done.max_truncated)
    for role, margin in done.margins.items():
        _check_role(f"margins.{role}", role)
        _check_share(f"margins.{role}", margin)
    for role in done.advisory:
        _check_role(f"advisory.{role}", role)
    for waiver in done.waivers:
        _check_waiver(waiver)
    return done


def _check_share(field: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise InvalidInput(f"gate.{field} is {value}; expected a share in [0, 1]")


def _check_role(field: str, role: str) -> None:
    if role not in ROLES:
        raise InvalidInput(f"gate.{field} is no role; expected one of {', '.join(ROLES)}")


def _check_waiver(waiver: Waiver) -> None:
    for field in ("what", "who", "why"):
        if not getattr(waiver, field).strip():
            raise InvalidInput(f"gate.waivers: `{field}` is missing; expected what, who, why and until")
    last_day(waiver)


def last_day(waiver: Waiver) -> date:
    """Raises InvalidInput."""
    try:
        return date.fromisoformat(waiver.until)
    except ValueError:
        raise InvalidInput(
            f"gate.waivers.{waiver.what}: until is {waiver.until!r}; expected the last day, such as 2030-01-31"
        ) from None
