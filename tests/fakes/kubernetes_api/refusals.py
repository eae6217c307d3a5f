"""What the API server says when it refuses: the Status objects of apimachinery, with their codes and reasons."""

from typing import Any

Json = dict[str, Any]


class Refused(Exception):
    def __init__(self, code: int, reason: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.details = code, reason, message, details

    def status(self) -> Json:
        return status(self.code, self.reason, self.message, self.details)


def status(code: int, reason: str, message: str, details: Json | None = None) -> Json:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success" if code < 300 else "Failure",
        "message": message,
        "reason": reason,
        "details": details or {},
        "code": code,
    }


def not_found(resource: str, name: str) -> Refused:
    return Refused(404, "NotFound", f'{resource} "{name}" not found', name=name, kind=resource)


def already_exists(resource: str, name: str) -> Refused:
    return Refused(409, "AlreadyExists", f'{resource} "{name}" already exists', name=name, kind=resource)


def conflict(resource: str, name: str, why: str = "") -> Refused:
    why = why or "the object has been modified; please apply your changes to the latest version and try again"
    return Refused(
        409, "Conflict", f'Operation cannot be fulfilled on {resource} "{name}": {why}', name=name, kind=resource
    )


def invalid(kind: str, name: str, *causes: str) -> Refused:
    listed = [{"reason": "FieldValueInvalid", "message": cause} for cause in causes]
    return Refused(
        422, "Invalid", f'{kind} "{name}" is invalid: {"; ".join(causes)}', name=name, kind=kind, causes=listed
    )


def forbidden(resource: str, name: str, why: str) -> Refused:
    return Refused(403, "Forbidden", f'{resource} "{name}" is forbidden: {why}', name=name, kind=resource)


def expired(asked: int, oldest: int) -> Refused:
    return Refused(410, "Expired", f"too old resource version: {asked} ({oldest})")


def bad_request(message: str) -> Refused:
    return Refused(400, "BadRequest", message)
