"""What a test may do to the server: answers that fail, answers that get lost, watches that break."""

import threading
from dataclasses import dataclass, field

from tests.fakes.kubernetes_api import refusals
from tests.fakes.kubernetes_api.refusals import Refused

REASONS = {429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable", 504: "Timeout", 403: "Forbidden"}


@dataclass
class Fault:
    left: int
    method: str = ""  # "" = any
    path: str = ""  # part of the address; "" = any
    status: int = 0  # 0 = do what is asked, then cut the connection instead of answering
    retry_after: float | None = None


@dataclass
class Faults:
    planned: list[Fault] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, method: str, path: str) -> Fault | None:
        """The fault that this request meets, used up by it."""
        with self.lock:
            for fault in self.planned:
                if fault.left > 0 and fault.method in ("", method) and fault.path in path:
                    fault.left -= 1
                    return fault
        return None


def refusal(fault: Fault) -> Refused:
    details = {} if fault.retry_after is None else {"retryAfterSeconds": fault.retry_after}
    reason = REASONS.get(fault.status, "Unknown")
    return refusals.Refused(fault.status, reason, f"a fault that the test asked for ({fault.status})", **details)
