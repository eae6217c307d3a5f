"""An API server asked in plain JSON, over the official client: any verb, any address."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3
from kubernetes import client, config

Json = dict[str, Any]
STRATEGIC, MERGE = "application/strategic-merge-patch+json", "application/merge-patch+json"


class Refusal(Exception):
    """The API server answered with an error."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"{status}: {body[:300]!r}")
        self.status = status


class Api:
    """Raises Refusal for any status from 400 on, urllib3's HTTPError when the server is away."""

    def __init__(self, kubeconfig: Path) -> None:
        configuration = client.Configuration()
        config.load_kube_config(str(kubeconfig), client_configuration=configuration)  # type: ignore[no-untyped-call]
        configuration.retries = False
        configuration.connection_pool_maxsize = 64
        self._configuration = configuration
        self._pool = client.ApiClient(configuration).rest_client.pool_manager

    def ask(self, method: str, path: str, body: object = None, **query: str) -> Json:
        return dict(json.loads(self._send(method, path, body, query).data))

    def patch(self, path: str, body: object, content_type: str = STRATEGIC) -> Json:
        return dict(json.loads(self._send("PATCH", path, body, {}, content_type).data))

    def read(self, path: str, **query: str) -> str:
        return self._send("GET", path, None, query).data.decode()

    def list(self, path: str, **query: str) -> list[Json]:
        return list(self.ask("GET", path, **query)["items"])

    def watch(self, path: str, version: str, timeout_s: int, **query: str) -> Iterator[tuple[str, Json]]:
        """(type, object), until the server or the connection ends it."""
        asked = {"watch": "true", "resourceVersion": version, "timeoutSeconds": str(timeout_s), **query}
        rest = b""
        answer = self._send("GET", path, None, asked)
        while piece := answer.read1():
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                event = json.loads(line)
                yield event["type"], event["object"]

    def _send(
        self, method: str, path: str, body: object, query: dict[str, str], content_type: str = "application/json"
    ) -> urllib3.BaseHTTPResponse:
        headers = {"Accept": "application/json", "Content-Type": content_type}
        if token := self._configuration.get_api_key_with_prefix("BearerToken"):
            headers["Authorization"] = token
        answer = self._pool.request(
            method,
            f"{self._configuration.host}{path}" + (f"?{urlencode(query)}" if query else ""),
            body=None if body is None else json.dumps(body),
            headers=headers,
            preload_content=False,
            timeout=urllib3.Timeout(connect=5, read=90),
        )
        if answer.status >= 400:
            raise Refusal(answer.status, answer.data)
        return answer
