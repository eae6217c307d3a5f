"""How an endpoint is doing: asked of its record, its attempt, its Job and its server, each time."""

import re
import time
from collections.abc import Callable

from lrm_safety.errors import NotFound, Unavailable
from lrm_safety.jobs import JobRunner, JobState, JobStatus
from lrm_safety.nouns import Endpoint, EndpointState
from services.inference import engine as engines
from services.inference.attempts import OVER, Attempts
from services.inference.placement import Placement

HEALTH_S = 5.0
STARTING, READY = EndpointState.ENDPOINT_STATE_STARTING, EndpointState.ENDPOINT_STATE_READY
FAILED, RETIRED = EndpointState.ENDPOINT_STATE_FAILED, EndpointState.ENDPOINT_STATE_RETIRED
IDLE = EndpointState.ENDPOINT_STATE_IDLE
ALIVE = (STARTING, READY, IDLE)
WOKEN = "it was idle and a request woke it"
GONE = "it was ready, and its replicas are gone"
Probe = Callable[[str, float], tuple[int, str]]  # GET url, timeout in seconds -> status (0 = nobody), text
Replicas = tuple[str, ...]  # urls that take requests


class States:
    def __init__(self, attempts: Attempts, placement: Placement, runner: JobRunner, probe: Probe) -> None:
        self._attempts, self._placement, self._runner, self._probe = attempts, placement, runner, probe
        self._were_ready: dict[str, float] = {}  # job -> since when: a busy engine may be slow to answer /health

    def ready_since(self, endpoint: Endpoint) -> float:
        """When we first saw the engine of a READY endpoint healthy."""
        return self._were_ready[endpoint.job]

    def look(self, endpoint: Endpoint) -> Replicas:
        """Sets the present state and error of an endpoint; the urls to ask when it is READY."""
        replicas: Replicas = ()
        if endpoint.state != RETIRED and not endpoint.job:
            replicas = (endpoint.url,)
            answers = self._probe(f"{endpoint.url}/models", HEALTH_S)[0] != 0
            endpoint.state = READY if answers else FAILED
            endpoint.error = "" if answers else f"nothing answers at {endpoint.url}"
        elif endpoint.state != RETIRED:
            replicas = self._look_at_job(endpoint)
        return replicas

    def _look_at_job(self, endpoint: Endpoint) -> Replicas:
        why = GONE if endpoint.job in self._were_ready else endpoint.error
        attempt = self._attempts.find(endpoint.job)
        if attempt is not None and attempt.state in OVER:
            endpoint.state, endpoint.error = attempt.state, attempt.error
            return ()
        try:
            status = self._runner.status(endpoint.job)
        except NotFound:
            endpoint.state, endpoint.error = FAILED, f"nobody knows a job {endpoint.job} here any more"
            return ()
        if status.has_ended:
            endpoint.state, endpoint.error = FAILED, self._why_ended(status)
            return ()
        replicas = self._placement.replicas(endpoint, status) if status.state is JobState.RUNNING else ()
        objection = self._objection(endpoint, replicas[0]) if replicas else ""
        if objection:
            self._attempts.end(endpoint.job, FAILED, objection)
            endpoint.state, endpoint.error = FAILED, objection
        elif replicas and endpoint.job in self._were_ready:
            endpoint.state, endpoint.error = READY, ""
        else:
            waiting = f"waiting: {status.waiting}" if status.waiting else ""
            endpoint.state, endpoint.error = STARTING, "; ".join(word for word in (why, waiting) if word)
        return replicas

    def _objection(self, endpoint: Endpoint, url: str) -> str:
        """Why an engine that has just become healthy must not be used. Remembers when it became so."""
        root = url.removesuffix("/v1")
        if endpoint.job in self._were_ready or self._probe(f"{root}/health", HEALTH_S)[0] != 200:
            return ""

        def get(path: str) -> tuple[int, str]:
            status, text = self._probe(root + path, HEALTH_S)
            if status == 0:
                raise Unavailable(f"{root} fell silent")
            return status, text

        try:
            objection = engines.load(endpoint.engine).objection(get, endpoint.model)
        except Unavailable:
            return ""
        if not objection:
            self._were_ready[endpoint.job] = time.time()
        return objection

    def _why_ended(self, status: JobStatus) -> str:
        why = status.reason or f"its engine ended ({status.state}, exit code {status.exit_code})"
        hint = last_error(self._runner.logs(status.id, 200))
        return f"{why}{f': {hint}' if hint else ''}; whole log: job {status.id}"


def is_coming(endpoint: Endpoint) -> bool:
    """Worth waiting for: it was served, and will be again without anybody doing anything more."""
    return endpoint.state == IDLE or (endpoint.state == STARTING and endpoint.error.startswith((WOKEN, GONE)))


def trouble(endpoint: Endpoint) -> str:
    """Why an endpoint that is not READY cannot be asked, and what to do."""
    name = endpoint.name
    again = f"`lrm deploy {name} {endpoint.checkpoint or endpoint.url}` starts it again"
    return {
        STARTING: f"endpoint {name} is still starting ({endpoint.error or 'its engine loads'}); wait for it",
        RETIRED: f"endpoint {name} was retired; {again}",
        IDLE: f"the engine of endpoint {name} was stopped for want of work; ask again and it is woken",
    }.get(endpoint.state, f"endpoint {name} is dead: {endpoint.error}; {again}")


def last_error(text: str) -> str:
    """The last line of a job's log that names an exception, or that our own command for weights ended with; shortened.
    Engines log no prompts as we start them."""
    found = re.findall(
        r"(?:^error: |(?:^|[\s:])(?=(?:\w+\.)*\w*(?:Error|Exception|Killed)\b))([^\n]+)", text, re.MULTILINE
    )
    return found[-1].strip()[:200] if found else ""
