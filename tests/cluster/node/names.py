"""Plays the cluster's DNS and service proxy: answers a Service's name with the addresses of its ready pods.

usage: names.py ADDRESS API PKI    UDP port 53 of ADDRESS; PKI holds ca.crt, admin.crt, admin.key

Enough where a Service's port is its pods' port. Only for tests on one machine.
"""

import json
import socket
import ssl
import struct
import sys
import time
import urllib.request
from pathlib import Path

ZONE = ".svc.cluster.local"
REFRESH_S = 0.5
NAME_ERROR, HEADER = 3, struct.Struct(">6H")


def main(address: str, api: str, pki: Path) -> None:
    tls = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    tls.load_cert_chain(pki / "admin.crt", pki / "admin.key")
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((address, 53))
    known: dict[str, list[str]] = {}
    asked_at = 0.0
    while True:
        query, client = server.recvfrom(4096)
        if time.monotonic() - asked_at > REFRESH_S:
            known, asked_at = addresses(api, tls) or known, time.monotonic()
        server.sendto(answer(query, known), client)


def addresses(api: str, tls: ssl.SSLContext) -> dict[str, list[str]]:
    """name.namespace.svc.cluster.local and <pod's hostname>.<the same> -> addresses; empty while the API is away."""
    try:
        with urllib.request.urlopen(f"{api}/api/v1/endpoints", context=tls, timeout=2) as reply:
            items = json.load(reply)["items"]
    except OSError:
        return {}
    found: dict[str, list[str]] = {"kubernetes.default" + ZONE: ["10.96.0.1"]}
    for item in items:
        name = f"{item['metadata']['name']}.{item['metadata']['namespace']}{ZONE}"
        for subset in item.get("subsets") or []:
            for each in subset.get("addresses") or []:
                for known_as in (name, f"{each['hostname']}.{name}" if each.get("hostname") else name):
                    found.setdefault(known_as, []).append(each["ip"])
    return found


def answer(query: bytes, known: dict[str, list[str]]) -> bytes:
    """A DNS reply (RFC 1035): A records that live a second, or the news that there is no such name."""
    identity, flags, *_ = HEADER.unpack_from(query)
    labels, at = [], HEADER.size
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode().lower())
        at += 1 + query[at]
    kind = struct.unpack_from(">H", query, at + 1)[0]
    question = query[HEADER.size : at + 5]
    name = ".".join(labels)
    found = list(dict.fromkeys(known.get(name, []))) if kind == 1 else []
    records = b"".join(b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 1, 4) + socket.inet_aton(ip) for ip in found)
    state = 0x8580 | (flags & 0x0100) | (0 if name in known else NAME_ERROR)
    return HEADER.pack(identity, state, 1, len(found), 0, 0) + question + records


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
