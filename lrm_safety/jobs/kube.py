"""The one door to Kubernetes: objects as plain dicts, over the official client's configuration, TLS and tokens.

What a service account must be granted that makes jobs (the trainer's) or servers (inference's), in the namespace of the
jobs and nowhere else; the last two rows are optional: to say for what a job waits.

    apiGroup           resource          trainer                                inference
    batch              jobs              create get list watch patch delete     get list watch
    apps               deployments       get list watch                         create get list watch delete
    ""                 services          create get                             create get
    ""                 pods              list watch patch delete                list watch patch delete
    ""                 pods/log          get                                    get
    ""                 resourcequotas    list                                   list
    kueue.x-k8s.io     workloads         list                                   list
"""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import urllib3
from kubernetes import config
from kubernetes.client import ApiClient, ApiException, Configuration

from lrm_safety import observe
from lrm_safety.errors import Conflict, Denied, Exhausted, InvalidInput, LrmError, NotFound, Unavailable
from lrm_safety.settings import Settings

Object = dict[str, Any]  # as the API server speaks of it
log = observe.logger(__name__)

TIMEOUT_S = (5.0, 30.0)  # to connect; between two bytes of an answer
PATIENCE_S = 20.0  # with an API server that does not answer, or wants less haste
PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0
TRY_AGAIN = (429, 500, 502, 503, 504)
CONNECTIONS = 64
# of a watch, beside the server's ADDED, MODIFIED, DELETED and BOOKMARK
CONNECTED, ENDED, EXPIRED = "CONNECTED", "ENDED", "EXPIRED"


@dataclass(frozen=True)
class Resource:
    api: str  # path of its group and version
    plural: str


JOBS = Resource("apis/batch/v1", "jobs")
DEPLOYMENTS = Resource("apis/apps/v1", "deployments")
SERVICES = Resource("api/v1", "services")
PODS = Resource("api/v1", "pods")
RESOURCE_QUOTAS = Resource("api/v1", "resourcequotas")
WORKLOADS = Resource("apis/kueue.x-k8s.io/v1beta2", "workloads")


@dataclass(frozen=True)
class Listing:
    items: list[Object]
    version: str  # from which a watch goes on


@dataclass(frozen=True)
class _Request:
    verb: str  # as RBAC calls it
    resource: Resource
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Object | None = None
    timeout_s: tuple[float, float] = TIMEOUT_S

    @property
    def method(self) -> str:
        return {"create": "POST", "patch": "PATCH", "delete": "DELETE"}.get(self.verb, "GET")


class Kube:
    """One namespace of one cluster. May be used from any thread.

    Every method raises Unavailable when the API server does not answer for PATIENCE_S (what was asked may have
    happened all the same), and Denied, saying what RBAC must grant, when this account may not ask.
    """

    def __init__(self, settings: Settings, namespace: str) -> None:
        self.namespace = namespace
        self._client = ApiClient(_configuration(settings))

    def create(self, resource: Resource, body: Object) -> Object:
        """The new object, or the one of that name that is there. Raises InvalidInput, Exhausted (quota)."""
        path = self._path(resource)
        try:
            return self._json(_Request("create", resource, path, body=body))
        except Conflict:
            return self.get(resource, body["metadata"]["name"])

    def get(self, resource: Resource, name: str) -> Object:
        """Raises NotFound."""
        return self._json(_Request("get", resource, self._path(resource, name)))

    def list(self, resource: Resource, selector: str = "") -> Listing:
        """All that the labels select."""
        found = self._json(_Request("list", resource, self._path(resource), {"labelSelector": selector}))
        return Listing(found.get("items") or [], found["metadata"].get("resourceVersion", ""))

    def patch(self, resource: Resource, name: str, change: Object) -> Object:
        """Merges `change` into the object. Raises NotFound."""
        return self._json(_Request("patch", resource, self._path(resource, name), body=change))

    def delete(self, resource: Resource, name: str, grace_s: int | None = None) -> None:
        """And, in the background, what it owns. Absent is fine. `grace_s` is a pod's, between SIGTERM and SIGKILL."""
        body: Object = {"propagationPolicy": "Background"}
        if grace_s is not None:
            body["gracePeriodSeconds"] = grace_s
        with suppress(NotFound):
            self._json(_Request("delete", resource, self._path(resource, name), body=body))

    def watch(
        self, resource: Resource, selector: str, version: str, timeout_s: int = 50
    ) -> Iterator[tuple[str, Object]]:
        """CONNECTED, then what happens to objects from `version` on: (ADDED, MODIFIED, DELETED or BOOKMARK, object).

        The last event is ENDED (go on from the newest version seen) or EXPIRED (that version is too old: list again).
        """
        query = {
            "labelSelector": selector,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(timeout_s),
        }
        request = _Request("watch", resource, self._path(resource), query, timeout_s=(TIMEOUT_S[0], timeout_s + 10.0))
        try:
            response = self._ask(request)
        except NotFound:  # HTTP 410
            yield EXPIRED, {}
            return
        yield CONNECTED, {}
        for line in _lines(_pieces(request, response)):
            event = json.loads(line)
            if event["type"] == "ERROR":
                yield (EXPIRED if event["object"].get("code") == 410 else ENDED), {}
                return
            yield event["type"], event["object"]
        yield ENDED, {}

    def log(self, pod: str, container: str, **query: str) -> Iterator[bytes]:
        """A container's output in pieces; `follow="true"` until it ends, `tailLines`, `previous="true"`.

        Raises NotFound when the pod or its log is gone, InvalidInput when the container has not started.
        """
        asked = {"container": container, **query}
        timeout_s = (TIMEOUT_S[0], 3600.0) if "follow" in query else TIMEOUT_S
        request = _Request("get", PODS, self._path(PODS, pod) + "/log", asked, timeout_s=timeout_s)
        return _pieces(request, self._ask(request))

    def _path(self, resource: Resource, name: str = "") -> str:
        return f"/{resource.api}/namespaces/{self.namespace}/{resource.plural}" + (f"/{name}" if name else "")

    def _json(self, request: _Request) -> Object:
        response = self._ask(request)
        try:
            return dict(json.loads(response.data))
        except (urllib3.exceptions.HTTPError, ValueError) as error:  # it was cut off
            raise Unavailable(f"the answer of the API server to {request.verb} {request.path} broke off") from error

    def _ask(self, request: _Request) -> urllib3.HTTPResponse:
        """Asks until there is an answer that waiting would not better."""
        until = time.monotonic() + PATIENCE_S
        pause = PAUSE_S
        while True:
            response, problem, wanted_pause = None, "", pause
            try:
                response = self._send(request)
            except (urllib3.exceptions.HTTPError, OSError, ApiException) as error:
                problem = f"{type(error).__name__}: {error}"
            if response is not None and response.status not in TRY_AGAIN:
                if 200 <= response.status < 300:
                    return response
                raise _error(request, response.status, _message(response), self.namespace)
            if response is not None:
                wanted_pause = max(pause, _retry_after(response))
                problem = f"{response.status} {_message(response)}"
            if time.monotonic() + wanted_pause > until:
                raise Unavailable(
                    f"the cluster's API server does not {request.verb} {request.resource.plural} ({problem[:300]}); "
                    "jobs go on meanwhile; check that it is up and reachable"
                )
            time.sleep(wanted_pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)

    def _send(self, request: _Request) -> urllib3.HTTPResponse:
        headers = {"Accept": "application/json"}
        if request.body is not None:
            kind = "merge-patch+json" if request.verb == "patch" else "json"
            headers["Content-Type"] = f"application/{kind}"
        prepared = self._client.param_serialize(
            request.method,
            request.path,
            query_params=list(request.query.items()),
            header_params=headers,
            body=request.body,
            auth_settings=["BearerToken"],
        )
        response: urllib3.HTTPResponse = self._client.call_api(*prepared, _request_timeout=request.timeout_s).response
        return response


def _configuration(settings: Settings) -> Configuration:
    """The pod's own account, unless a kubeconfig is named."""
    made = Configuration()
    try:
        if settings.kubeconfig:
            config.load_kube_config(settings.kubeconfig, client_configuration=made)  # type: ignore[no-untyped-call]
        else:
            config.load_incluster_config(made)  # type: ignore[no-untyped-call]
    except config.ConfigException as error:
        raise InvalidInput(
            f"LRM_JOBS is cluster, but there is no way to reach one ({error}); run in a pod with a service account's "
            "token, or set KUBECONFIG"
        ) from error
    made.retries = False  # ours know which request may be repeated
    made.connection_pool_maxsize = CONNECTIONS
    return made


def _pieces(request: _Request, response: urllib3.HTTPResponse) -> Iterator[bytes]:
    """The answer as it comes; it simply ends when the connection breaks."""
    try:
        while piece := response.read1():
            yield piece
    except (urllib3.exceptions.HTTPError, OSError) as error:
        log.info("stream_broke", verb=request.verb, path=request.path, error=str(error))
    finally:
        response.close()


def _lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Whole lines only: what breaks off in the middle of one is no event."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from (line for line in lines if line)


def _message(response: urllib3.HTTPResponse) -> str:
    """What the API server says in its Status object."""
    try:
        data = response.data
        return str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        return data.decode(errors="replace")[:300]
    except urllib3.exceptions.HTTPError:
        return ""


def _retry_after(response: urllib3.HTTPResponse) -> float:
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdigit() else 0.0


def _error(request: _Request, status: int, message: str, namespace: str) -> LrmError:
    if status == 403 and "exceeded quota" in message:
        return Exhausted(f"{message}; ask for less, or have the quota of namespace {namespace} raised")
    if status == 403 and "PodSecurity" in message:
        return InvalidInput(f"namespace {namespace} refuses such pods: {message}")
    if status in (401, 403):
        return _denied(request, message, namespace)
    kind = {404: NotFound, 410: NotFound, 409: Conflict, 400: InvalidInput, 422: InvalidInput}.get(status, LrmError)
    return kind(f"the cluster answers {status} to {request.verb} {request.path}: {message}")


def _denied(request: _Request, message: str, namespace: str) -> Denied:
    resource = request.resource.plural + ("/log" if request.path.endswith("/log") else "")
    group = request.resource.api.split("/")[1] if request.resource.api.startswith("apis/") else ""
    return Denied(
        f"this account may not {request.verb} {resource} in namespace {namespace}; its Role must grant apiGroups "
        f'["{group}"], resources ["{resource}"], verbs ["{request.verb}"] ({message})'
    )
