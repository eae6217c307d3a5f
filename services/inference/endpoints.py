"""Endpoints: deploys checkpoints as engine Jobs, registers URLs, says how they are doing, stops and wakes engines.

    endpoints/<name>.json    the Endpoint as announced; its state here is only RETIRED or not
    engines/<job>.json       one attempt at starting an engine (attempts.py)

Nothing is kept in memory that matters: how an engine is doing is asked of its Job and its /health, each time.
"""

import hashlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from lrm_safety import artefacts, jsonl, observe
from lrm_safety.chat import ChatTemplate
from lrm_safety.errors import Cancelled, LrmError, NotFound, Unavailable
from lrm_safety.jobs import JobRunner, JobStatus
from lrm_safety.nouns import Checkpoint, DeployRequest, Endpoint, EndpointState, Tenant, reference
from lrm_safety.settings import Settings
from lrm_safety.store import ObjectStore
from services.inference import engine as engines
from services.inference.attempts import Attempts
from services.inference.checks import NAME, check, check_same, only_model, taken
from services.inference.engine import Launch, Site
from services.inference.placement import Placement
from services.inference.spending import Spending
from services.inference.states import (
    ALIVE,
    FAILED,
    HEALTH_S,
    IDLE,
    READY,
    RETIRED,
    WOKEN,
    Probe,
    Replicas,
    States,
    is_coming,
    trouble,
)
from services.inference.target import Target
from services.inference.uses import Uses

DRAIN_S = 120.0  # for what is in flight at an engine that is to stop
WAKE_S = 900.0  # for an engine that was idle: a node may have to come first
WAIT_S = 0.5
log = observe.logger(__name__)


class Endpoints:
    def __init__(self, store: ObjectStore, runner: JobRunner, settings: Settings, probe: Probe) -> None:
        self._store, self._runner, self._settings, self._probe = store, runner, settings, probe
        self._attempts = Attempts(store, runner)
        self._placement = Placement(store, runner, settings)
        self._states = States(self._attempts, self._placement, runner, probe)
        self._spending = Spending(store)
        self.uses = Uses(store, min(30.0, settings.engine_idle_s / 3 or 30.0), self._placement.is_cluster)
        self._deploying = threading.Lock()
        self._waiting: dict[str, threading.Lock] = defaultdict(threading.Lock)  # one of many waiters asks
        self._awaited: dict[str, float] = {}  # job -> since when somebody waits for it
        self._stopping: set[str] = set()
        self._gone: set[str] = set()  # jobs that have ended and are paid for
        self._templates: dict[str, ChatTemplate] = {}

    def deploy(self, request: DeployRequest, tenant: Tenant) -> Endpoint:
        """The endpoint, STARTING or already alive. A dead or idle one is started anew under the next attempt.

        Raises InvalidInput, NotFound (no such checkpoint), Corrupt (its bytes are not what was announced), Conflict
        (the name serves something else), Unavailable (nothing answers at the URL).
        """
        check(request)
        with self._deploying:
            return self._register(request, tenant) if request.url else self._start(request, tenant)

    def get(self, name: str) -> Endpoint:
        """The endpoint in its present state; `error` says why it FAILED, or what it waits for while STARTING."""
        return self._look(name)[0]

    def list_all(self) -> list[Endpoint]:
        return [self.get(name) for name in self._names()]

    def retire(self, name: str) -> Endpoint:
        """Takes no new requests, lets those in flight end for DRAIN_S, then stops the engine, if it is ours. The record
        stays: what it answered is still traced by it."""
        endpoint = self._record(name)
        endpoint.state = RETIRED
        self._announce(endpoint)
        if endpoint.job:
            self._attempts.end(endpoint.job, RETIRED)
            self._stop(endpoint)
        return endpoint

    @contextmanager
    def asked(self, name: str, is_wanted: Callable[[], bool]) -> Iterator[Target]:
        """What Generate needs of a READY endpoint, which is in use until the block ends. An idle one is woken first.

        Raises Unavailable, saying what to do, when it is not or will not be READY; Cancelled when nobody waits.
        """
        while True:
            endpoint, replicas = self._awake(name, is_wanted)
            if not endpoint.job:
                yield Target(endpoint, replicas)
                return
            with self.uses.using(endpoint.job):
                if not self._attempts.is_over(endpoint.job):  # asked now that every replica can know of us
                    yield self._target(endpoint, replicas)
                    return

    def replicas(self, name: str) -> Replicas:
        """The urls to ask now; waits for those on their way back. Raises Unavailable when none will come."""
        return self._awake(name, lambda: True)[1]

    def round(self) -> None:
        """To be done now and then, by every replica: notes costs, stops idle engines and those that are over."""
        for name in self._names():
            try:
                self._attend(self._record(name))
            except LrmError as error:
                log.warning("round_failed", endpoint=name, error=str(error))

    def _attend(self, record: Endpoint) -> None:
        if not record.job or record.job in self._gone:
            return
        try:
            status = self._runner.status(record.job)
        except NotFound:
            return
        self._note(record, status)
        if status.has_ended:
            self._gone.add(record.job)
            return
        if self._is_unused(record):
            log.info("endpoint_idle", endpoint=record.name, job=record.job)
            self._attempts.end(record.job, IDLE)
        if self._attempts.is_over(record.job):
            self._stop(record)

    def _is_unused(self, record: Endpoint) -> bool:
        limit = self._settings.engine_idle_s
        if not limit:
            return False
        endpoint, _ = self._look(record.name)
        if endpoint.state != READY or endpoint.job != record.job:
            return False
        return time.time() - max(self._states.ready_since(endpoint), self.uses.last(endpoint.job)) > limit

    def _awake(self, name: str, is_wanted: Callable[[], bool]) -> tuple[Endpoint, Replicas]:
        endpoint, replicas = self._look(name)
        if is_coming(endpoint):
            with self._waiting[name]:
                endpoint, replicas = self._wait(name, is_wanted)
        if endpoint.state != READY:
            raise Unavailable(trouble(endpoint))
        return endpoint, replicas

    def _wait(self, name: str, is_wanted: Callable[[], bool]) -> tuple[Endpoint, Replicas]:
        """Until an idle endpoint is READY, or failed, or WAKE_S is over."""
        while True:
            endpoint, replicas = self._look(name)
            if endpoint.state == IDLE:
                self._wake(name)
                endpoint, replicas = self._look(name)
            if not is_coming(endpoint):
                self._awaited.pop(endpoint.job, None)
                return endpoint, replicas
            since = self._awaited.setdefault(endpoint.job, time.monotonic())
            if time.monotonic() - since > WAKE_S:
                return endpoint, replicas
            if not is_wanted():
                raise Cancelled("the caller went away")
            time.sleep(WAIT_S)

    def _wake(self, name: str) -> None:
        with self._deploying:
            endpoint = self.get(name)
            if endpoint.state == IDLE:
                log.info("endpoint_woken", endpoint=name, job=endpoint.job)
                endpoint.error = WOKEN
                self._launch(endpoint)

    def _start(self, request: DeployRequest, tenant: Tenant) -> Endpoint:
        manifest = artefacts.find_model(self._store, request.checkpoint)
        before = self._before(request.name)
        if before is not None and before.state in ALIVE:
            check_same(before, manifest.digest, request.engine)
            if before.state != IDLE:
                return before
        endpoint = Endpoint(
            name=request.name,
            checkpoint=reference(manifest.name, manifest.digest),
            weights_digest=manifest.digest,
            engine=engines.choose(request.engine, self._settings),
            think_style=request.think_style or "auto",
            tenant=tenant,
            spec=request.engine,
        )
        return self._launch(endpoint)

    def _launch(self, wanted: Endpoint) -> Endpoint:
        """Starts the attempt that the first of several replicas wrote down: a racing one's, if that was not us."""
        before = self._before(wanted.name)
        if before is not None and before.state in (IDLE, FAILED):
            self._stop(before)  # lest it keeps the room that the next one needs
        endpoint = Endpoint()
        endpoint.CopyFrom(wanted)
        endpoint.state = EndpointState.ENDPOINT_STATE_STARTING
        endpoint.job = self._attempts.next_job(endpoint)
        endpoint.url = self._placement.url(endpoint.job)
        site, launch = self._planned(endpoint)
        endpoint.model, endpoint.precision = launch.model, launch.precision
        claimed = self._attempts.claim(endpoint)
        if claimed != endpoint:
            endpoint = claimed
            site, launch = self._planned(endpoint)
        try:
            self._runner.submit(self._placement.job(endpoint, site, launch))
        except LrmError:
            self._attempts.drop(endpoint.job)
            raise
        log.info("engine_submitted", endpoint=endpoint.name, job=endpoint.job, engine=endpoint.engine, url=endpoint.url)
        return self._announce(endpoint)

    def _planned(self, endpoint: Endpoint) -> tuple[Site, Launch]:
        site = self._placement.site(endpoint)
        return site, engines.load(endpoint.engine).launch(site)

    def _stop(self, endpoint: Endpoint) -> None:
        """Lets what is in flight end, then ends the Job. Its attempt is over already, so nothing new comes."""
        job = endpoint.job
        if job in self._stopping:
            return
        self._stopping.add(job)
        try:
            if not self.uses.wait_until_quiet(job, DRAIN_S):
                log.warning("engine_stopped_in_use", endpoint=endpoint.name, job=job)
            before = self._runner.status(job)
            after = self._runner.cancel(job)
            self._note(endpoint, replace(after, started_at=after.started_at or before.started_at))
            self.uses.forget(job)
        except NotFound:
            log.info("engine_already_gone", endpoint=endpoint.name, job=job)
        finally:
            self._stopping.discard(job)

    def _note(self, endpoint: Endpoint, status: JobStatus) -> None:
        try:
            if self._spending.is_due(status):
                self._spending.note(endpoint, status, *self._planned(endpoint))
        except LrmError as error:  # a node pool that is gone, a store that is away
            log.warning("cost_not_noted", job=status.id, error=str(error))

    def _register(self, request: DeployRequest, tenant: Tenant) -> Endpoint:
        url = request.url.rstrip("/")
        status, text = self._probe(f"{url}/models", HEALTH_S)
        if status == 0:
            raise Unavailable(f"nothing answers at {url}; check the url (it usually ends in /v1) and start the server")
        model = request.model or only_model(url, text)
        digest = hashlib.sha256(f"{url}\n{model}".encode()).hexdigest()
        before = self._before(request.name)
        if before is not None and before.state in ALIVE and before.weights_digest != digest:
            raise taken(before)
        endpoint = Endpoint(
            name=request.name,
            url=url,
            model=model,
            weights_digest=digest,
            engine="vendor",
            state=READY,
            think_style=request.think_style or "auto",
            tenant=tenant,
        )
        return self._announce(endpoint)

    def _target(self, endpoint: Endpoint, replicas: Replicas) -> Target:
        manifest = artefacts.find(self._store, "checkpoints", Checkpoint, endpoint.checkpoint)
        folder = self._placement.files(manifest)
        if manifest.digest not in self._templates:
            self._templates[manifest.digest] = ChatTemplate.from_folder(folder)
        return Target(endpoint, replicas, engines.load(endpoint.engine), self._templates[manifest.digest], folder)

    def _look(self, name: str) -> tuple[Endpoint, Replicas]:
        endpoint = self._record(name)
        return endpoint, self._states.look(endpoint)

    def _names(self) -> list[str]:
        return [key.removeprefix("endpoints/").removesuffix(".json") for key in self._store.list("endpoints/")]

    def _record(self, name: str) -> Endpoint:
        key = f"endpoints/{name}.json"
        try:
            return jsonl.loads(Endpoint, self._store.read(key)) if NAME.fullmatch(name) else _unknown(name)
        except NotFound:
            raise NotFound(
                f"no endpoint is named {name!r}; there are: {', '.join(self._names()) or 'none yet'}"
            ) from None

    def _before(self, name: str) -> Endpoint | None:
        try:
            return self.get(name)
        except NotFound:
            return None

    def _announce(self, endpoint: Endpoint) -> Endpoint:
        self._store.write(f"endpoints/{endpoint.name}.json", jsonl.dumps(endpoint).encode())
        return endpoint


def _unknown(name: str) -> Endpoint:
    raise NotFound(name)
