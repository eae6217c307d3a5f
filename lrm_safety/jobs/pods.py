"""Reading pods: what their status says of whether a job runs, since when, where, and how its containers ended."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from lrm_safety.jobs.kube import Object
from lrm_safety.jobs.manifests import JOB_LABEL
from lrm_safety.jobs.pod_template import COMPLETION_INDEX, CONTAINER, WEIGHTS


def newest(pods: Iterable[Object]) -> list[Object]:
    """One pod for each node of a Job: the last of those that followed each other there."""
    by_age = sorted(pods, key=lambda pod: (pod["metadata"].get("creationTimestamp") or "", name_of(pod)))
    return list({(pod["metadata"].get("annotations") or {}).get(COMPLETION_INDEX): pod for pod in by_age}.values())


def name_of(thing: Object) -> str:
    return str(thing["metadata"]["name"])


def job_of(pod: Object) -> str:
    """The id of the job that it works for."""
    return str((pod["metadata"].get("labels") or {}).get(JOB_LABEL, ""))


def condition(thing: Object, kind: str) -> Object:
    """Of a pod, Job, Deployment or Workload; empty when it has no such condition."""
    conditions = thing.get("status", {}).get("conditions") or []
    return next((each for each in conditions if each.get("type") == kind), {})


def is_so(thing: Object, kind: str) -> bool:
    return bool(condition(thing, kind).get("status") == "True")


def is_ready(pod: Object) -> bool:
    """Whether it takes requests."""
    return is_so(pod, "Ready") and not is_ending(pod)


def is_ending(pod: Object) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def address(pod: Object) -> str:
    return str(pod.get("status", {}).get("podIP", ""))


def containers(pod: Object) -> Iterator[Object]:
    """Statuses of its containers in the order in which they start."""
    status = pod.get("status", {})
    yield from status.get("initContainerStatuses") or []
    yield from status.get("containerStatuses") or []


def the_container(pod: Object) -> Object:
    """Status of the one that does the job's work; empty before its node knows of it."""
    return next((each for each in containers(pod) if each["name"] == CONTAINER), {})


def state(container: Object, kind: str) -> Object:
    """Its state if it is of this kind (waiting, running, terminated), else empty."""
    return container.get("state", {}).get(kind) or {}


def last_end(container: Object) -> Object:
    """How it ended, or ended before it was started anew; empty when it never did."""
    return state(container, "terminated") or container.get("lastState", {}).get("terminated") or {}


def is_running(pod: Object) -> bool:
    return bool(state(the_container(pod), "running"))


def is_fetching(pod: Object) -> bool:
    """Whether its weights are still to be put in place."""
    has_weights = any(each["name"] == WEIGHTS for each in pod["spec"].get("initContainers") or [])
    ends = [state(each, "terminated") for each in containers(pod) if each["name"] == WEIGHTS]
    return has_weights and not any(end.get("exitCode") == 0 for end in ends)


def has_started(pod: Object) -> bool:
    container = the_container(pod)
    return bool(state(container, "running") or last_end(container))


def started_at(pods: Iterable[Object]) -> float:
    """When the first of them began its work, in seconds since 1970; 0 when none has."""
    found = (the_container(pod) for pod in pods)
    times = [seconds(each.get("startedAt")) for c in found for each in (state(c, "running"), last_end(c)) if each]
    return min((time for time in times if time), default=0.0)


def seconds(timestamp: str | None) -> float:
    """Of Kubernetes' RFC 3339, since 1970; 0 for none."""
    return datetime.fromisoformat(timestamp).timestamp() if timestamp else 0.0
