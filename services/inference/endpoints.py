"""Endpoints: deploys checkpoints as engine Jobs, registers URLs, says how they are doing.

    endpoints/<name>.json    the Endpoint as announced; its state here is only RETIRED or not
    engines/<job>.json       one attempt at starting an engine: written if absent, so racing replicas start one engine

Nothing is kept in memory that matters: how an engine is doing is asked of its Job and its /health, each time.
"""

import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import replace

from lrm_safety import artefacts, jsonl, observe, thinking
from lrm_safety.chat import ChatTemplate
from lrm_safety.errors import Conflict, InvalidInput, LrmError, NotFound, Unavailable
from lrm_safety.jobs import JobRunner, JobSpec, JobState, JobStatus
from lrm_safety.nouns import Checkpoint, DeployRequest, Endpoint, EndpointState, EngineSpec, reference
from lrm_safety.settings import Settings
from lrm_safety.store import ObjectStore
from services.inference import engine as engines
from services.inference.engine import Launch, Site
from services.inference.ports import free_port
from services.inference.target import Target

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
HEALTH_S = 5.0
STARTING, READY = EndpointState.ENDPOINT_STATE_STARTING, EndpointState.ENDPOINT_STATE_READY
FAILED, RETIRED = EndpointState.ENDPOINT_STATE_FAILED, EndpointState.ENDPOINT_STATE_RETIRED
Probe = Callable[[str, float], tuple[int, str]]  # GET url, timeout in seconds -> status (0 = nobody), text
log = observe.logger(__name__)


class Endpoints:
    def __init__(self, store: ObjectStore, runner: JobRunner, settings: Settings, probe: Probe) -> None:
        self._store, self._runner, self._settings, self._probe = store, runner, settings, probe
        self._models = settings.state_dir / "models"
        self._deploying = threading.Lock()
        self._were_ready: set[str] = set()  # jobs: a busy engine may be slow to answer /health
        self._templates: dict[str, ChatTemplate] = {}

    def deploy(self, request: DeployRequest) -> Endpoint:
        """The endpoint, STARTING or already alive. A dead one is started anew under the next attempt.

        Raises InvalidInput, NotFound (no such checkpoint), Corrupt (its bytes are not what was announced), Conflict
        (the name serves something else), Unavailable (nothing answers at the URL).
        """
        _check(request)
        with self._deploying:
            return self._register(request) if request.url else self._start(request)

    def get(self, name: str) -> Endpoint:
        """The endpoint in its present state; `error` says why it FAILED, or what it waits for while STARTING."""
        endpoint = self._record(name)
        if endpoint.state == RETIRED:
            return endpoint
        endpoint.state, endpoint.error = self._state(endpoint)
        return endpoint

    def list_all(self) -> list[Endpoint]:
        names = (key.removeprefix("endpoints/").removesuffix(".json") for key in self._store.list("endpoints/"))
        return [self.get(name) for name in names]

    def retire(self, name: str) -> Endpoint:
        """Stops the engine, if it is ours. The record stays: what it answered is still traced by it."""
        endpoint = self._record(name)
        if endpoint.job:
            try:
                self._runner.cancel(endpoint.job)
            except NotFound:
                log.info("engine_already_gone", endpoint=name, job=endpoint.job)
        endpoint.state = RETIRED
        return self._announce(endpoint)

    def target(self, name: str) -> Target:
        """What Generate needs of a READY endpoint. Raises Unavailable, saying what to do, when it is not."""
        endpoint = self.get(name)
        if endpoint.state != READY:
            raise Unavailable(self.trouble(endpoint))
        if not endpoint.checkpoint:
            return Target(endpoint)
        manifest = artefacts.find(self._store, "checkpoints", Checkpoint, endpoint.checkpoint)
        folder = artefacts.fetch(self._store, "checkpoints", manifest, self._models)
        if manifest.digest not in self._templates:
            self._templates[manifest.digest] = ChatTemplate.from_folder(folder)
        return Target(endpoint, engines.load(endpoint.engine), self._templates[manifest.digest], folder)

    def trouble(self, endpoint: Endpoint) -> str:
        """Why an endpoint cannot be asked, and what to do; empty when it can."""
        name = endpoint.name
        what = f"--checkpoint {endpoint.checkpoint}" if endpoint.checkpoint else f"--url {endpoint.url}"
        again = f"`lrm deploy {name} {what}` starts it again"
        return {
            READY: "",
            STARTING: f"endpoint {name} is still starting ({endpoint.error or 'its engine loads'}); wait for it",
            RETIRED: f"endpoint {name} was retired; {again}",
        }.get(endpoint.state, f"endpoint {name} is dead: {endpoint.error}; {again}")

    def _start(self, request: DeployRequest) -> Endpoint:
        manifest = artefacts.find(self._store, "checkpoints", Checkpoint, request.checkpoint)
        before = self._before(request.name)
        if before is not None and before.state in (STARTING, READY):
            _check_same(before, manifest.digest, request.engine)
            return before
        engine = engines.choose(request.engine, self._settings)
        folder = artefacts.fetch(self._store, "checkpoints", manifest, self._models)
        job = self._next_job(_job_base(request.name, manifest.digest))
        machine = self._runner.machine(request.engine.node_pool, "engine")
        site = Site(request.name, folder, free_port(job), request.engine, self._settings, machine)
        launch = engines.load(engine).launch(site)
        endpoint = Endpoint(
            name=request.name,
            url=_local_url(site.port),
            model=launch.model,
            checkpoint=reference(manifest.name, manifest.digest),
            weights_digest=manifest.digest,
            engine=engine,
            state=STARTING,
            job=job,
            think_style=request.think_style or "auto",
            precision=launch.precision,
        )
        return self._submit(endpoint, site)

    def _submit(self, endpoint: Endpoint, site: Site) -> Endpoint:
        """Starts the attempt that the first of several deployers wrote down; on its port, if that was not ours."""
        key = f"engines/{endpoint.job}.json"
        if not self._store.create(key, jsonl.dumps(endpoint).encode()):
            endpoint = jsonl.loads(Endpoint, self._store.read(key))
            site = replace(site, port=int(endpoint.url.removesuffix("/v1").rsplit(":", 1)[-1]))
        try:
            self._runner.submit(_job(endpoint.job, engines.load(endpoint.engine).launch(site), site))
        except LrmError:
            self._store.delete(key)  # nothing runs under this record: the next deploy starts from scratch
            raise
        log.info("engine_submitted", endpoint=endpoint.name, job=endpoint.job, engine=endpoint.engine, port=site.port)
        return self._announce(endpoint)

    def _next_job(self, base: str) -> str:
        """The id of the newest attempt that has not ended, or of the next one."""
        attempts = [int(key[:-5].rsplit("-", 1)[-1]) for key in self._store.list(f"engines/{base}-")]
        newest = f"{base}-{max(attempts, default=1)}"
        try:
            ended = self._runner.status(newest).has_ended
        except NotFound:  # never submitted, or on a machine that is gone
            return newest
        return f"{base}-{max(attempts, default=1) + 1}" if ended else newest

    def _register(self, request: DeployRequest) -> Endpoint:
        url = request.url.rstrip("/")
        status, text = self._probe(f"{url}/models", HEALTH_S)
        if status == 0:
            raise Unavailable(f"nothing answers at {url}; check the url (it usually ends in /v1) and start the server")
        model = request.model or _only_model(url, text)
        digest = hashlib.sha256(f"{url}\n{model}".encode()).hexdigest()
        before = self._before(request.name)
        if before is not None and before.state in (STARTING, READY) and before.weights_digest != digest:
            raise _taken(before)
        endpoint = Endpoint(
            name=request.name,
            url=url,
            model=model,
            weights_digest=digest,
            engine="vendor",
            state=READY,
            think_style=request.think_style or "auto",
        )
        return self._announce(endpoint)

    def _state(self, endpoint: Endpoint) -> tuple["EndpointState.ValueType", str]:
        if not endpoint.job:
            answers = self._probe(f"{endpoint.url}/models", HEALTH_S)[0] != 0
            return (READY, "") if answers else (FAILED, f"nothing answers at {endpoint.url}")
        try:
            status = self._runner.status(endpoint.job)
        except NotFound:
            return FAILED, f"this machine knows no job {endpoint.job}"
        if status.has_ended:
            return FAILED, self._why_ended(status)
        if status.state is JobState.QUEUED:
            return STARTING, f"waiting: {status.waiting}"
        if self._probe(endpoint.url.removesuffix("/v1") + "/health", HEALTH_S)[0] == 200:
            self._were_ready.add(endpoint.job)
        return (READY, "") if endpoint.job in self._were_ready else (STARTING, "")

    def _why_ended(self, status: JobStatus) -> str:
        why = status.reason or f"its engine ended ({status.state}, exit code {status.exit_code})"
        hint = last_error(self._runner.logs(status.id, 200))
        return f"{why}{f': {hint}' if hint else ''}; whole log: job {status.id}"

    def _record(self, name: str) -> Endpoint:
        key = f"endpoints/{name}.json"
        try:
            return jsonl.loads(Endpoint, self._store.read(key)) if NAME.fullmatch(name) else _unknown(name)
        except NotFound:
            keys = self._store.list("endpoints/")
            names = ", ".join(each.removeprefix("endpoints/").removesuffix(".json") for each in keys)
            raise NotFound(f"no endpoint is named {name!r}; there are: {names or 'none yet'}") from None

    def _before(self, name: str) -> Endpoint | None:
        try:
            return self.get(name)
        except NotFound:
            return None

    def _announce(self, endpoint: Endpoint) -> Endpoint:
        self._store.write(f"endpoints/{endpoint.name}.json", jsonl.dumps(endpoint).encode())
        return endpoint


def last_error(text: str) -> str:
    """The last line of an engine's log that names an exception, shortened. Engines log no prompts as we start them."""
    found = re.findall(r"(?:^|[\s:])((?:\w+\.)*\w*(?:Error|Exception|Killed)\b:? ?[^\n]*)", text, re.MULTILINE)
    return found[-1].strip()[:200] if found else ""


def _check(request: DeployRequest) -> None:
    if not NAME.fullmatch(request.name):
        raise InvalidInput(f"endpoint name {request.name!r}: expected letters, digits, '.', '_', '-', at most 100")
    if bool(request.url) == bool(request.checkpoint):
        raise InvalidInput("give either a checkpoint to serve or the url of a server that runs already")
    if request.url and not re.match(r"https?://[^/\s]+", request.url):
        raise InvalidInput(f"url {request.url!r}: expected http://… or https://…, ending in /v1")
    if request.think_style:
        thinking.split("", style=request.think_style)


def _check_same(before: Endpoint, digest: str, spec: EngineSpec) -> None:
    if before.weights_digest != digest or spec.engine not in ("", "auto", before.engine):
        raise _taken(before)


def _taken(before: Endpoint) -> Conflict:
    serves = before.checkpoint or before.url
    name = before.name
    return Conflict(
        f"endpoint {name} serves {serves} by {before.engine}; `lrm retire {name}` first, or take another name"
    )


def _only_model(url: str, text: str) -> str:
    try:
        names = [model["id"] for model in json.loads(text)["data"]]
    except (ValueError, KeyError, TypeError):
        names = []
    if len(names) != 1:
        raise InvalidInput(f"{url} serves {', '.join(names) or 'no model that it lists'}; say which with --model")
    return str(names[0])


def _job(job_id: str, launch: Launch, site: Site) -> JobSpec:
    return JobSpec(
        id=job_id,
        command=launch.command,
        env=launch.env,
        cpus=site.machine.cpus,
        memory_gib=launch.memory_gib,
        gpus=launch.gpus,
        port=site.port,
    )


def _job_base(name: str, digest: str) -> str:
    """A Kubernetes name but for the attempt; the hash keeps names apart that such a name would make equal."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:30].strip("-")
    short = hashlib.sha256(f"{name}\n{digest}".encode()).hexdigest()[:8]
    return f"engine-{slug or 'x'}-{short}"


def _local_url(port: int) -> str:
    return f"http://127.0.0.1:{port}/v1"


def _unknown(name: str) -> Endpoint:
    raise NotFound(name)
