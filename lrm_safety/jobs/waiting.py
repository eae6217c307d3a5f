"""For what a job of the cluster waits, as one sentence that says what to do: pure functions over what the API shows.

Every answer goes on from "it waits:", as in "for 1 nvidia.com/gpu: …". The scheduler's words are in a pod's
PodScheduled condition, a node's in its containers' states, a queue's in Kueue's Workload; a refused pod is in nobody's
status, so the namespace's quotas are compared with what the job asks for.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lrm_safety.jobs.kube import Object
from lrm_safety.jobs.manifests import QUEUE_LABEL
from lrm_safety.jobs.pod_template import WEIGHTS
from lrm_safety.jobs.pods import condition, containers, has_started, is_ready, is_so, last_end, name_of, newest, state
from lrm_safety.jobs.quantity import amount

_UNITS = ("cpu", "memory", "ephemeral-storage")
_LACK = re.compile(r"(\d+) Insufficient (\S+?)\.?$")


@dataclass(frozen=True)
class Seen:
    """A job that does not run yet, as the API server shows it. Quotas and workloads only matter before it has pods."""

    owner: Object
    pods: Sequence[Object] = ()
    quotas: Sequence[Object] = ()
    workloads: Sequence[Object] = ()


def why(seen: Seen) -> str:
    """For what it waits; empty when for nothing."""
    pods = newest(seen.pods) if seen.owner["kind"] == "Job" else list(seen.pods)
    if not pods:
        return _for_a_pod(seen)
    reasons = [words for pod in pods if (words := _for_its_start(pod))]
    wanted = _wanted(seen.owner)
    if not reasons and len(pods) < wanted:
        reasons = [_for_a_pod(seen)]
    if not reasons:
        return _for_readiness(pods) if seen.owner["kind"] == "Deployment" else ""
    started = sum(has_started(pod) for pod in pods)
    ahead = f"for all of its {wanted} nodes ({started} ready): " if wanted > 1 and seen.owner["kind"] == "Job" else ""
    return ahead + reasons[0]


def _wanted(owner: Object) -> int:
    return int(owner["spec"].get("completions") or owner["spec"].get("replicas") or 1)


def _for_a_pod(seen: Seen) -> str:
    """Nothing was made yet: a queue has not let it in, a quota refuses its pods, or its controller is slow."""
    queue = (seen.owner["metadata"].get("labels") or {}).get(QUEUE_LABEL, "")
    is_suspended = seen.owner["spec"].get("suspend") or is_so(seen.owner, "Suspended")
    if queue and (is_suspended or seen.workloads):
        return _for_its_queue(queue, seen.workloads)
    if is_suspended:
        return "for somebody to resume it: its Job is suspended (kubectl patch job … suspend: false)"
    found = next((words for quota in seen.quotas for words in _for_quota(quota, seen.owner)), "")
    namespace = seen.owner["metadata"].get("namespace", "")
    return found or (
        f"for the cluster to make its pods; if that takes minutes, a quota or rule of namespace {namespace} refuses "
        f"them: kubectl -n {namespace} describe {seen.owner['kind'].lower()} {name_of(seen.owner)}"
    )


def _for_its_queue(queue: str, workloads: Sequence[Object]) -> str:
    for workload in workloads:
        evicted, reserved = condition(workload, "Evicted"), condition(workload, "QuotaReserved")
        if reserved.get("status") != "True" and (said := reserved.get("message") or ""):
            lost = "it lost its place to work of higher priority; " if evicted.get("reason") == "Preempted" else ""
            hint = _queue_hint(queue, said)
            return f"in queue {queue}: {lost}{said.rstrip('.')}; {hint}"
        if reserved.get("status") == "True" and not is_so(workload, "Admitted"):
            return f"in queue {queue}: it has quota and waits for the queue's admission checks"
    return f"in queue {queue} for its turn"


def _queue_hint(queue: str, said: str) -> str:
    if re.search(r"doesn't exist|not found|inactive|stopped", said, re.IGNORECASE):
        return f"have the cluster's administrators mend queue {queue}, or set another in the cluster's configuration"
    return "it starts when other work of the queue ends; priority: urgent goes first"


def _for_quota(quota: Object, owner: Object) -> Iterator[str]:
    """What the quota has too little left of for one pod of this job."""
    status = quota.get("status", {})
    hard, used = status.get("hard") or {}, status.get("used") or {}
    for name, needed in _asked(owner).items():
        for key in (f"requests.{name}", f"limits.{name}", *([name] if name in _UNITS else [])):
            if key in hard and amount(used.get(key, "0")) + amount(needed) > amount(hard[key]):
                yield (
                    f"for quota {name_of(quota)} of its namespace: {used.get(key, '0')} of {hard[key]} {key} are used "
                    f"and it asks for {needed}; it starts when other work ends, or the quota is raised"
                )
    if "pods" in hard and amount(used.get("pods", "0")) + 1 > amount(hard["pods"]):
        yield f"for quota {name_of(quota)} of its namespace: all of {hard['pods']} pods are in use"


def _asked(owner: Object) -> Mapping[str, str]:
    container = owner["spec"]["template"]["spec"]["containers"][0]
    requests: Mapping[str, str] = container.get("resources", {}).get("requests", {})
    return requests


def _for_its_start(pod: Object) -> str:
    """Empty once its container has started."""
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") != "True" and not pod["spec"].get("nodeName"):
        return _for_a_node(pod, scheduled)
    for container in containers(pod):
        waiting = state(container, "waiting")
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return _for_a_container(container, waiting)
        if container["name"] == WEIGHTS and state(container, "running"):
            return "for its weights to be fetched from the store and verified"
    if has_started(pod):
        return ""
    return (
        f"for node {pod['spec'].get('nodeName')} to fetch its image and start it; if that takes long: "
        f"kubectl -n {pod['metadata'].get('namespace')} describe pod {name_of(pod)}"
    )


def _for_a_node(pod: Object, scheduled: Object) -> str:
    said = str(scheduled.get("message") or "")
    place = pod.get("status", {}).get("nominatedNodeName")
    if place:
        return f"for node {place}, where work of lower priority is being stopped to make room"
    if scheduled.get("reason") == "SchedulingGated":
        return "for its queue to let it in (it is gated)"
    if not said:
        return "for the scheduler to choose a node"
    if "persistentvolumeclaim" in said.lower():
        return f"for its volume ({said}); check model_cache of the pool in the cluster's configuration"
    fragments = _fragments(said)
    lacks = [found for each in fragments if (found := _LACK.search(each))]
    others = [words for each in fragments if not _LACK.search(each) for words in [_node_words(each, pod)] if words]
    if not lacks:
        what = "; ".join(others) or said
        return f"for a node that may take it: {what}; mend the pool in the cluster's configuration, or add such nodes"
    asks = _pod_asks(pod)
    needs = " and ".join(f"{asks.get(lack[2], 'some')} {lack[2]}" for lack in lacks)
    short = ", ".join(
        f"{lack[1]} {'nodes have' if lack[1] != '1' else 'node has'} too little {lack[2]} free" for lack in lacks
    )
    return f"for {needs}: {'; '.join([short, *others])}; it starts when other work ends or such a node is added"


def _pod_asks(pod: Object) -> Mapping[str, str]:
    return _asked({"spec": {"template": pod}})


def _fragments(said: str) -> list[str]:
    """Of "0/5 nodes are available: 2 Insufficient cpu, 3 node(s) had …. preemption: 0/5 nodes are available: …"."""
    counted = said.split("preemption:", maxsplit=1)[0].partition(":")[2] or said
    return [each.strip().rstrip(".") for each in re.split(r",\s+(?=\d+ )", counted) if each.strip()]


_NODE_WORDS: tuple[tuple[str, Callable[[str, Object], str]], ...] = (
    ("selector", lambda each, pod: f"{_count(each)} not have the labels {_selector(pod)}"),
    ("affinity", lambda each, pod: f"{_count(each)} not have the labels {_selector(pod)}"),
    ("taint", lambda each, pod: f"{_count(each)} not take it for their taint {_taint(each)}"),
    ("unschedulable", lambda each, pod: f"{_count(each)} not take new work (cordoned)"),
    ("Too many pods", lambda each, pod: f"{_count(each)} not take more pods"),
)


def _node_words(fragment: str, pod: Object) -> str:
    return next((words(fragment, pod) for mark, words in _NODE_WORDS if mark in fragment), fragment)


def _count(fragment: str) -> str:
    number = fragment.split(" ", maxsplit=1)[0]
    return "1 node does" if number == "1" else f"{number} nodes do"


def _selector(pod: Object) -> str:
    wanted = pod["spec"].get("nodeSelector") or {}
    return ", ".join(f"{name}={value}" for name, value in wanted.items()) or "that it asks for"


def _taint(fragment: str) -> str:
    found = re.search(r"\{([^}]*)\}", fragment)
    return found[1].rstrip(": ") if found else ""


def _for_a_container(container: Object, waiting: Object) -> str:
    reason, said = waiting["reason"], str(waiting.get("message") or "")
    if "Image" in reason:
        return (
            f"for its image {container.get('image')}, which its node cannot pull ({said or reason}); check the name, "
            "and image_pull_secrets of the cluster's configuration"
        )
    if reason == "CrashLoopBackOff":
        code = last_end(container).get("exitCode")
        what = "its weights" if container["name"] == WEIGHTS else "it"
        return f"to be started again: {what} ended with exit code {code} ({container.get('restartCount', 0)} restarts)"
    if "Config" in reason:
        return f"for its container to be configured ({said or reason}); check Secrets and env_from of the cluster"
    return f"for its container ({reason}{': ' + said if said else ''})"


def _for_readiness(pods: Sequence[Object]) -> str:
    if any(is_ready(pod) for pod in pods):
        return ""
    return "for its engine to load the weights (GET /health does not answer yet)"
