"""How a job of the cluster ended, and why in words, from its conditions and its pods' statuses; never from events."""

import signal
from collections.abc import Iterator, Sequence

from lrm_safety.jobs import JobState
from lrm_safety.jobs.folder import Ended
from lrm_safety.jobs.kube import Object
from lrm_safety.jobs.manifests import EXIT_INVALID_INPUT
from lrm_safety.jobs.pod_template import CONTAINER, WEIGHTS
from lrm_safety.jobs.pods import condition, containers, is_so, last_end, newest, seconds, state

HOPELESS = {CONTAINER: EXIT_INVALID_INPUT, WEIGHTS: 2}  # exit codes: trying again would end the same
RESTARTS = 3  # of a server that ends by itself, before it is given up
SETTLED_S = 600.0  # a server that ran for so long is no hopeless case
_CANNOT_START = ("StartError", "ContainerCannotRun", "ContainerCannotStart")
_DISRUPTIONS = {
    "PreemptionByScheduler": "stopped for work of higher priority",
    "PreemptionByKubeScheduler": "stopped for work of higher priority",
    "DeletionByTaintManager": "its node went away or was tainted",
    "EvictionByEvictionAPI": "its node was being emptied",
    "DeletionByPodGC": "its node is gone",
    "TerminationByKubelet": "its node shut down or ran out of something",
}
_POD_REASONS = {
    "Evicted": "its node put it out",
    "NodeLost": "its node is gone",
    "Shutdown": "its node shut down",
    "NodeShutdown": "its node shut down",
    "Terminated": "its node shut down",
    "Preempting": "stopped for work of higher priority",
    "UnexpectedAdmissionError": "its node could not give it what it asked for",
}


def ending(owner: Object, pods: Sequence[Object]) -> Ended | None:
    """None while it goes on."""
    if owner["kind"] == "Deployment":
        hopeless = bool(pods) and all(_is_hopeless(pod) for pod in pods)
        return failure(owner, pods) if hopeless else None
    if is_so(owner, "Complete"):
        return Ended(JobState.DONE, 0)
    return failure(owner, newest(pods)) if is_so(owner, "Failed") else None


def failure(owner: Object, pods: Sequence[Object]) -> Ended:
    """FAILED, by the first thing that went wrong."""
    found = condition(owner, "Failed")
    if found.get("reason") == "DeadlineExceeded":
        limit = owner["spec"].get("activeDeadlineSeconds")
        return Ended(JobState.FAILED, exit_code(pods), f"stopped after {limit} s, the cluster's deadline_s for a job")
    first = _first_end(pods)
    if first is None:
        why = next((words for pod in pods if (words := _fate(pod))), "")
        return Ended(JobState.FAILED, None, why or f"its pods are gone ({found.get('message') or 'nobody knows why'})")
    pod, container = first
    end = last_end(container)
    return Ended(JobState.FAILED, end["exitCode"], _words(owner, pod, container["name"], end))


def exit_code(pods: Sequence[Object]) -> int | None:
    """What the job ended with, as far as any pod tells."""
    first = _first_end(pods)
    if first:
        return int(last_end(first[1])["exitCode"])
    ends = [last_end(each) for pod in pods for each in containers(pod) if each["name"] == CONTAINER]
    return 0 if ends and all(ends) else None


def _first_end(pods: Sequence[Object]) -> tuple[Object, Object] | None:
    """The container whose failure came first. Others, killed because of it, come after it even within one second."""
    ends = [(pod, each) for pod in pods for each in containers(pod) if last_end(each).get("exitCode")]

    def order(item: tuple[Object, Object]) -> tuple[bool, bool, float]:
        code, finished = last_end(item[1])["exitCode"], seconds(last_end(item[1]).get("finishedAt"))
        return code != EXIT_INVALID_INPUT, code == 128 + signal.SIGTERM, finished

    return min(ends, key=order, default=None)


def _words(owner: Object, pod: Object, container: str, end: Object) -> str:
    return "; ".join(words for words in _reasons(owner, pod, container, end) if words)


def _reasons(owner: Object, pod: Object, container: str, end: Object) -> Iterator[str]:
    code = end["exitCode"]
    if container != CONTAINER:
        yield f"its {container} could not be fetched (exit code {code})"
    yield (fate := _fate(pod))
    if end.get("reason") == "OOMKilled":
        asked = _asked(owner, "memory")
        yield f"it used more memory than it asked for ({asked}): ask for more in memory_gib"
    elif end.get("reason") in _CANNOT_START:
        command = owner["spec"]["template"]["spec"]["containers"][0]["command"][0]
        yield f"{command} cannot be started: {end.get('message') or end['reason']}"
    elif code > 128 and not fate:
        name = next((each.name for each in signal.Signals if each == code - 128), f"signal {code - 128}")
        yield f"killed by {name}"


def _fate(pod: Object) -> str:
    """What was done to the pod as a whole, in words; empty for one that ended by itself."""
    status = pod.get("status", {})
    disruption = condition(pod, "DisruptionTarget")
    if disruption.get("status") == "True":
        words = _DISRUPTIONS.get(disruption.get("reason", ""), f"disrupted ({disruption.get('reason')})")
        return _with(words, disruption.get("message"))
    reason = str(status.get("reason") or "")
    if reason.startswith("OutOf"):
        return f"its node turned out to have too little {reason.removeprefix('OutOf')} free"
    words = _POD_REASONS.get(reason, "")
    return _with(words, status.get("message")) if words else ""


def _with(words: str, message: str | None) -> str:
    return f"{words} ({message})" if message else words


def _asked(owner: Object, resource: str) -> str:
    container = owner["spec"]["template"]["spec"]["containers"][0]
    return str(container.get("resources", {}).get("limits", {}).get(resource, "unlimited"))


def _is_hopeless(pod: Object) -> bool:
    """A container that ends again and again soon after its start, or says that it always will."""
    for container in containers(pod):
        end = last_end(container)
        if not end.get("exitCode") or state(container, "running"):
            continue
        lasted_s = seconds(end.get("finishedAt")) - seconds(end.get("startedAt"))
        again_and_again = container.get("restartCount", 0) >= RESTARTS and lasted_s < SETTLED_S
        if again_and_again or end["exitCode"] == HOPELESS.get(container["name"]):
            return True
    return False
