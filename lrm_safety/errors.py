"""The error tree. Each error says what was wrong, what was expected and what to do; and knows its gRPC status.

    LrmError
    ├── InvalidInput        INVALID_ARGUMENT     a recipe, a file or an argument is wrong: mend it and ask again
    ├── NotFound            NOT_FOUND            no such dataset, checkpoint, run, plugin, file
    ├── Conflict            FAILED_PRECONDITION  the state of things does not allow it (port in use, run is going on)
    ├── Corrupt             DATA_LOSS            stored bytes are not what their digest says
    ├── Unavailable         UNAVAILABLE          an engine, a service or the store does not answer: try again
    ├── Denied              PERMISSION_DENIED    this identity may not ask that service
    ├── Exhausted           RESOURCE_EXHAUSTED   disk, memory or quota is used up
    └── Cancelled           CANCELLED            somebody asked for the end

An error text never holds model text or rows of a dataset: ids, file names and line numbers only.
"""

import grpc


class LrmError(Exception):
    """Root of every error this project raises on purpose."""

    status = grpc.StatusCode.UNKNOWN


class InvalidInput(LrmError):
    status = grpc.StatusCode.INVALID_ARGUMENT


class NotFound(LrmError):
    status = grpc.StatusCode.NOT_FOUND


class Conflict(LrmError):
    status = grpc.StatusCode.FAILED_PRECONDITION


class Corrupt(LrmError):
    status = grpc.StatusCode.DATA_LOSS


class Unavailable(LrmError):
    status = grpc.StatusCode.UNAVAILABLE


class Denied(LrmError):
    status = grpc.StatusCode.PERMISSION_DENIED


class Exhausted(LrmError):
    status = grpc.StatusCode.RESOURCE_EXHAUSTED


class Cancelled(LrmError):
    status = grpc.StatusCode.CANCELLED


def from_status(code: grpc.StatusCode, details: str) -> LrmError:
    """The error a gRPC status stands for: the inverse of what the server's error mapping did."""
    for kind in LrmError.__subclasses__():
        if kind.status is code:
            return kind(details)
    return LrmError(details)
