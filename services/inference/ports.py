"""Picks the port of a new engine, outside the range from which the system takes ports for outgoing connections."""

import hashlib
import socket

FIRST, LAST = 18100, 18999


def free_port(name: str) -> int:
    """A port on which nobody listens now. An engine listens only after minutes, so names start at different ports;
    a name says whose engine it is, too: other copies of us on this machine choose in the same range."""
    count = LAST - FIRST + 1
    start = int(hashlib.sha256(name.encode()).hexdigest(), 16) % count
    return next((port for i in range(count) if _is_free(port := FIRST + (start + i) % count)), FIRST)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
