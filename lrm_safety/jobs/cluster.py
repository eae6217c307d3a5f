"""Jobs in a Kubernetes cluster: Jobs for trainings and imports, Deployments for servers; LRM_JOBS=cluster.

What is going on is the API server's to know, what has ended the store's: the first look at an ended job brings its log
and its outcome there, and only then may its objects go. So nothing depends on the process that submitted it.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import ceil, inf

from lrm_safety import observe
from lrm_safety.errors import Conflict, Denied, InvalidInput, LrmError, NotFound, Unavailable
from lrm_safety.jobs import JOB_ID, JobSpec, JobState, JobStatus, cluster_config, endings, manifests, pod_logs, waiting
from lrm_safety.jobs.folder import Ended
from lrm_safety.jobs.kube import DEPLOYMENTS, JOBS, PODS, RESOURCE_QUOTAS, SERVICES, WORKLOADS, Kube, Object, Resource
from lrm_safety.jobs.machine import Machine
from lrm_safety.jobs.mirror import Mirror
from lrm_safety.jobs.pods import (
    address,
    has_started,
    is_ending,
    is_fetching,
    is_ready,
    is_running,
    job_of,
    name_of,
    newest,
    seconds,
    started_at,
)
from lrm_safety.jobs.records import Ending, JobRecords
from lrm_safety.settings import Settings
from lrm_safety.store import open_store

log = observe.logger(__name__)
CLEAN_UP_S = 120.0  # for a node, after the grace: to end containers and to say so
WORDS_S = 10.0  # so long, words that took more requests are said again


@dataclass(frozen=True)
class Live:
    """A job's objects."""

    owner: Object
    pods: list[Object]

    @property
    def resource(self) -> Resource:
        return DEPLOYMENTS if self.is_server else JOBS

    @property
    def is_server(self) -> bool:
        return bool(self.owner["kind"] == "Deployment")


class ClusterRunner:
    """See `lrm_safety.jobs` for the promises. Any number of processes may share a namespace and a store."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._config = cluster_config.read(settings.cluster)
        self._records = JobRecords(open_store(settings))
        self._kube = Kube(settings, self._config.namespace)
        self._logs = pod_logs.PodLogs(self._kube)
        self._mirrors: dict[Resource, Mirror] = {}
        self._said: dict[str, tuple[float, str]] = {}  # job -> when we last asked for what it waits, and the answer

    def submit(self, spec: JobSpec) -> JobStatus:
        """Raises InvalidInput for a job this cluster can never run, Conflict when another job has its name."""
        wanted = manifests.owner(spec, self._config, self._settings)
        if self._records.ending(spec.id):
            return self.status(spec.id)
        if self._records.is_to_end(spec.id):  # who cancelled it may have died while at it
            return self.cancel(spec.id)
        if not spec.port:  # who makes servers may have no right to delete Jobs
            self._tidy()
        made = self._kube.create(DEPLOYMENTS if spec.port else JOBS, wanted)
        self._check_made(spec, made)
        service = manifests.service(spec, self._config, made)
        if service is not None:
            self._kube.create(SERVICES, service)
        self._records.note_submitted(spec.id)
        return self.status(spec.id)

    def status(self, job_id: str) -> JobStatus:
        """Raises NotFound; Unavailable when the cluster cannot be asked, which says nothing about the job."""
        if ended := self._records.known_ending(job_id):
            return _ended_status(job_id, ended)
        live = self._find(job_id)
        if live is None:
            return self._status_of_absent(job_id)
        if endings.ending(live.owner, live.pods) is not None:
            return _ended_status(job_id, self._settle(job_id))
        if live.is_server:
            return self._server_status(live)
        self._logs.care_for(job_id)
        return self._job_status(live)

    def logs(self, job_id: str, tail: int = 50) -> str:
        """Raises NotFound. Of several pods, the last lines of each."""
        if self.status(job_id).has_ended:
            return "\n".join(self._records.log(job_id).decode(errors="replace").splitlines()[-tail:])
        return pod_logs.shown(self._kube, self._pods(job_id), tail).rstrip("\n")

    def cancel(self, job_id: str, grace_s: float = 10.0) -> JobStatus:
        """Raises Unavailable when its pods do not go: their node does not answer. It stays cancelled all the same."""
        if (status := self.status(job_id)).has_ended:
            return status
        self._records.ask_for_end(job_id)
        self._logs.forget(job_id)  # what follows hears them
        pods = self._pods(job_id)
        with pod_logs.LastWords(self._kube, pods) as words:
            self._delete(job_id, pods, max(1, ceil(grace_s)))
            pods = self._wait_until_gone(job_id, pods, max(1, ceil(grace_s)))
        ended = Ended(JobState.CANCELLED, endings.exit_code(newest(pods)))
        return _ended_status(job_id, self._records.end(job_id, _dated(ended, pods), words.text() if pods else None))

    def note_at_stake(self, job_id: str, gpu_seconds: float) -> None:
        """On each of its pods: with one of them all that is at stake is lost."""
        live = self._find(job_id)
        cost = {"annotations": {manifests.COST_ANNOTATION: manifests.deletion_cost(gpu_seconds)}}
        for pod in live.pods if live else ():
            if is_running(pod):
                self._mark(pod, cost)

    def machine(self, node_pool: str = "", image: str = "worker") -> Machine:
        default = self._config.engine_pool if image == "engine" else self._config.training_pool
        pool = self._config.pool(node_pool or default)
        return Machine(int(pool.cpus), pool.memory_gib, pool.gpus, pool.has_fast_bf16, pool.gpu_hour_price)

    def close(self) -> None:
        """Ends the watches."""
        for mirror in self._mirrors.values():
            mirror.stop()

    def _check_made(self, spec: JobSpec, made: Object) -> None:
        annotations = made["metadata"].get("annotations") or {}
        if annotations.get(manifests.SPEC_ANNOTATION) != manifests.digest(spec):
            raise Conflict(
                f"the cluster has another job {spec.id}, which asks for something else; cancel that one first"
            )
        if spec.nodes > 1 and made["spec"].get("completionMode") != "Indexed":
            self._kube.delete(JOBS, spec.id)
            raise InvalidInput(
                f"nodes is {spec.nodes}, but this cluster has no Indexed Jobs; they need Kubernetes 1.24 or newer"
            )

    def _find(self, job_id: str) -> Live | None:
        """What the watches show, or, while they know nothing of it, what the API server says."""
        if not JOB_ID.fullmatch(job_id):
            raise NotFound(f"there is no job {job_id!r} in this cluster")
        pods = self._mirror(PODS).objects()
        for resource, kind in ((JOBS, "Job"), (DEPLOYMENTS, "Deployment")):
            for owner in self._mirror(resource).objects() or ():
                if name_of(owner) == job_id and pods is not None:
                    return Live({**owner, "kind": kind}, [pod for pod in pods if job_of(pod) == job_id])
        for resource in (JOBS, DEPLOYMENTS):
            try:
                return Live(self._kube.get(resource, job_id), self._pods(job_id))
            except NotFound:
                continue
        return None

    def _mirror(self, resource: Resource) -> Mirror:
        if resource not in self._mirrors:
            selector = f"{manifests.INSTANCE_LABEL}={self._config.release},{manifests.JOB_LABEL}"
            told = self._logs.notice if resource == PODS else lambda _: None
            self._mirrors[resource] = Mirror(self._kube, resource, selector, told)
        return self._mirrors[resource]

    def _pods(self, job_id: str) -> list[Object]:
        """As they are now, the oldest first."""
        pods = self._kube.list(PODS, f"{manifests.JOB_LABEL}={job_id}").items
        return sorted(pods, key=lambda pod: (pod["metadata"].get("creationTimestamp") or "", name_of(pod)))

    def _job_status(self, live: Live) -> JobStatus:
        job_id, pods = name_of(live.owner), newest(live.pods)
        began = started_at(live.pods)
        if len(pods) == live.owner["spec"].get("completions", 1) and all(has_started(pod) for pod in pods):
            return JobStatus(job_id, JobState.RUNNING, hosts=(), started_at=began)
        return JobStatus(job_id, JobState.QUEUED, hosts=(), waiting=self._why(live), started_at=began)

    def _server_status(self, live: Live) -> JobStatus:
        job_id, began = name_of(live.owner), started_at(live.pods)
        shut_off = [pod for pod in live.pods if self._is_shut_off(pod)]
        hosts = tuple(address(pod) for pod in shut_off if is_ready(pod) and address(pod))
        if hosts or any(has_started(pod) for pod in live.pods):
            words = "" if hosts else self._why(live)
            return JobStatus(job_id, JobState.RUNNING, hosts=hosts, waiting=words, started_at=began)
        return JobStatus(job_id, JobState.QUEUED, hosts=(), waiting=self._why(live))

    def _is_shut_off(self, pod: Object) -> bool:
        """Whether it reaches nothing any more: policies of the network go by the label, which we make follow the
        fetching of its weights. It gets no request before.
        """
        wanted = "true" if is_fetching(pod) else None
        if pod["metadata"]["labels"].get(manifests.FETCHING_LABEL) != wanted:
            self._mark(pod, {"labels": {manifests.FETCHING_LABEL: wanted}})
        return wanted is None

    def _mark(self, pod: Object, metadata: Object) -> None:
        with suppress(NotFound):  # it has gone meanwhile
            self._kube.patch(PODS, name_of(pod), {"metadata": metadata})

    def _why(self, live: Live) -> str:
        """For what it waits. Quotas and queues are asked only for a job without pods, and now and then."""
        if live.pods:
            return waiting.why(waiting.Seen(live.owner, live.pods))
        job_id = name_of(live.owner)
        asked_at, words = self._said.get(job_id, (0.0, ""))
        if time.monotonic() - asked_at > WORDS_S:
            uid = live.owner["metadata"]["uid"]
            mine = [each for each in self._optional(WORKLOADS) if _is_owned_by(each, uid)]
            words = waiting.why(waiting.Seen(live.owner, (), self._optional(RESOURCE_QUOTAS), mine))
            self._said[job_id] = (time.monotonic(), words)
        return words

    def _optional(self, resource: Resource) -> list[Object]:
        try:
            return self._kube.list(resource).items
        except (Denied, NotFound):  # better words are worth no failure
            return []

    def _status_of_absent(self, job_id: str) -> JobStatus:
        """Its objects are gone: it ended long ago, is being cancelled, was deleted by others, or never was."""
        if ended := self._records.ending(job_id):
            return _ended_status(job_id, ended)
        if self._records.is_to_end(job_id):
            pods = self._pods(job_id)
            state = JobState.RUNNING if pods else JobState.CANCELLED
            return JobStatus(job_id, state, hosts=(), started_at=started_at(pods))
        if not self._records.was_submitted(job_id):
            raise NotFound(f"there is no job {job_id!r} in namespace {self._config.namespace}, nor in the store")
        pods = self._pods(job_id)
        text = self._logs.collected(job_id, pods)
        lost = Ended(JobState.FAILED, None, "its objects were deleted from the cluster by somebody else")
        return _ended_status(job_id, self._records.end(job_id, _dated(lost, pods), text))

    def _settle(self, job_id: str) -> Ending:
        """The first look at an ended job: its log and how it ended go to the store, then its objects may go."""
        if ended := self._records.ending(job_id):
            return ended
        live = Live(self._owner(job_id), self._pods(job_id))
        found = endings.ending(live.owner, live.pods)
        if found is None:
            raise Unavailable(f"job {job_id} changes at this moment; look again")
        if found.state is JobState.FAILED and self._records.is_to_end(job_id):
            found = Ended(JobState.CANCELLED, found.exit_code)
        text = self._logs.collected(job_id, live.pods)
        kept = self._records.end(job_id, _dated(found, live.pods), text)
        self._let_go(live)
        return kept

    def _owner(self, job_id: str) -> Object:
        try:
            return self._kube.get(JOBS, job_id)
        except NotFound:
            return self._kube.get(DEPLOYMENTS, job_id)

    def _let_go(self, live: Live) -> None:
        """A Job stays to be looked at for a while; a server would be started again and again."""
        job_id = name_of(live.owner)
        if live.is_server:
            self._kube.delete(DEPLOYMENTS, job_id)
            return
        try:
            self._kube.patch(JOBS, job_id, {"spec": {"ttlSecondsAfterFinished": self._config.ttl_s}})
        except NotFound:
            log.info("job_already_gone", job=job_id)

    def _tidy(self) -> None:
        """Deletes Jobs that ended more than the ttl ago: those that nobody looked at, or whose server knows no ttl."""
        selector = f"{manifests.INSTANCE_LABEL}={self._config.release},{manifests.JOB_LABEL}"
        try:
            for job in self._kube.list(JOBS, selector).items:
                if _finished_at(job) and time.time() - _finished_at(job) > self._config.ttl_s:
                    self._settle(name_of(job))
                    self._kube.delete(JOBS, name_of(job))
        except LrmError as error:  # it is not what the caller came for
            log.warning("old_jobs_not_deleted", error=str(error))

    def _delete(self, job_id: str, pods: Sequence[Object], grace_s: int) -> None:
        """The owner first, or it would make new pods for those that go; then a Job's pods, with this grace."""
        if live := self._find(job_id):
            self._kube.delete(live.resource, job_id)
        for pod in pods:
            self._hasten(pod, grace_s)

    def _wait_until_gone(self, job_id: str, known: Sequence[Object], grace_s: int) -> list[Object]:
        """The pods as they were last seen."""
        last = {name_of(pod): pod for pod in known}
        until = time.monotonic() + grace_s + CLEAN_UP_S
        selector = f"{manifests.JOB_LABEL}={job_id}"
        while (left := until - time.monotonic()) > 0:
            listing = self._kube.list(PODS, selector)
            there = {name_of(pod): pod for pod in listing.items}
            last |= there
            if not there:
                return list(last.values())
            for pod in there.values():
                self._hasten(pod, grace_s)
            for kind, pod in self._kube.watch(PODS, selector, listing.version, timeout_s=ceil(min(left, 30))):
                if kind in ("ADDED", "MODIFIED", "DELETED"):
                    last[name_of(pod)] = pod
                if kind == "MODIFIED":
                    self._hasten(pod, grace_s)
                if kind == "DELETED":
                    there.pop(name_of(pod), None)
                    if not there:
                        break
        nodes = sorted({str(pod["spec"].get("nodeName")) for pod in last.values()})
        raise Unavailable(f"job {job_id} is cancelled, but pods of it are still on {', '.join(nodes)}: does it answer?")

    def _hasten(self, pod: Object, grace_s: int) -> None:
        """A pod that goes because its owner went has its own, longer grace. A Deployment's must be told so first."""
        owners = pod["metadata"].get("ownerReferences") or []
        goes_alone = is_ending(pod) or not any(each["kind"] == "Job" for each in owners)
        left_s = pod["metadata"].get("deletionGracePeriodSeconds", 0) if goes_alone else inf
        if left_s > grace_s:
            self._kube.delete(PODS, name_of(pod), grace_s)


def _is_owned_by(thing: Object, uid: str) -> bool:
    return any(each.get("uid") == uid for each in thing["metadata"].get("ownerReferences") or [])


def _finished_at(job: Object) -> float:
    """Seconds since 1970; 0 while it goes on."""
    conditions = job.get("status", {}).get("conditions") or []
    ends = [each for each in conditions if each["type"] in ("Complete", "Failed") and each["status"] == "True"]
    return max((seconds(each.get("lastTransitionTime")) for each in ends), default=0.0)


def _dated(ended: Ended, pods: Sequence[Object]) -> Ending:
    return Ending(ended.state, ended.exit_code, ended.reason, started_at(pods), time.time())


def _ended_status(job_id: str, ended: Ending) -> JobStatus:
    return JobStatus(job_id, ended.state, ended.exit_code, hosts=(), reason=ended.reason, started_at=ended.started_at)
