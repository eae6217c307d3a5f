"""Attempts at serving a checkpoint: engines/<job>.json, an Endpoint each, made by put-if-absent.

So racing replicas start one engine. Its state is STARTING until it is over on purpose: IDLE, RETIRED, or FAILED where
the engine runs and must not be used; how an engine is doing meanwhile is asked of its Job.
"""

import hashlib
import re

from lrm_safety import jsonl
from lrm_safety.errors import NotFound
from lrm_safety.jobs import JobRunner
from lrm_safety.nouns import Endpoint, EndpointState
from lrm_safety.store import ObjectStore

OVER = (
    EndpointState.ENDPOINT_STATE_IDLE,
    EndpointState.ENDPOINT_STATE_RETIRED,
    EndpointState.ENDPOINT_STATE_FAILED,
)


class Attempts:
    def __init__(self, store: ObjectStore, runner: JobRunner) -> None:
        self._store, self._runner = store, runner

    def next_job(self, endpoint: Endpoint) -> str:
        """The id of the newest attempt that is not over, or of the next one."""
        base = job_base(endpoint.name, endpoint.weights_digest)
        numbers = [int(key[:-5].rsplit("-", 1)[-1]) for key in self._store.list(f"engines/{base}-")]
        newest = max(numbers, default=1)
        return f"{base}-{newest + 1}" if self._has_ended(f"{base}-{newest}") else f"{base}-{newest}"

    def claim(self, endpoint: Endpoint) -> Endpoint:
        """The attempt as the first of several replicas wrote it down."""
        key = _key(endpoint.job)
        if self._store.create(key, jsonl.dumps(endpoint).encode()):
            return endpoint
        return jsonl.loads(Endpoint, self._store.read(key))

    def drop(self, job: str) -> None:
        """Nothing runs under this attempt: the next one begins from scratch."""
        self._store.delete(_key(job))

    def find(self, job: str) -> Endpoint | None:
        try:
            return jsonl.loads(Endpoint, self._store.read(_key(job)))
        except NotFound:
            return None

    def end(self, job: str, state: "EndpointState.ValueType", error: str = "") -> None:
        """From now on no replica uses the engine; whoever says so, or any later round, stops it."""
        attempt = self.find(job)
        if attempt is not None:
            attempt.state, attempt.error = state, error
            self._store.write(_key(job), jsonl.dumps(attempt).encode())

    def is_over(self, job: str) -> bool:
        """On purpose: no replica may use the engine any more."""
        attempt = self.find(job)
        return attempt is not None and attempt.state in OVER

    def _has_ended(self, job: str) -> bool:
        if self.is_over(job):
            return True
        try:
            return self._runner.status(job).has_ended
        except NotFound:  # never submitted, or on a machine that is gone
            return False


def job_base(name: str, digest: str) -> str:
    """A Kubernetes name but for the attempt; the hash keeps names apart that such a name would make equal."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:30].strip("-")
    short = hashlib.sha256(f"{name}\n{digest}".encode()).hexdigest()[:8]
    return f"engine-{slug or 'x'}-{short}"


def _key(job: str) -> str:
    return f"engines/{job}.json"
