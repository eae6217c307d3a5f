"""The Job controller of Kubernetes 1.31 and later: Indexed jobs, pod failure policies, suspension, deadlines, TTL."""

import copy
from collections.abc import Iterable
from datetime import UTC, datetime

from tests.fakes.kubernetes_api.objects import Objects, now, random_suffix
from tests.fakes.kubernetes_api.owning import (
    TRACKED,
    condition,
    delete_pods,
    is_over,
    is_ready,
    make_pod,
    owned,
    set_status,
    with_condition,
)
from tests.fakes.kubernetes_api.refusals import Json
from tests.fakes.kubernetes_api.resources import JOBS, PODS

INDEX = "batch.kubernetes.io/job-completion-index"


class JobController:
    """`counted` is the memory that the real one keeps in status.uncountedTerminatedPods and completedIndexes."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self.counted: dict[str, dict[str, tuple[str, str]]] = {}  # job uid -> pod uid -> (outcome, index)

    def step(self) -> None:
        jobs = self.objects.store.all_of(JOBS)
        for job in jobs:
            if job["metadata"].get("deletionTimestamp"):
                continue
            if self._finished(job):
                self._expire(job)
                self._count(job)
            else:
                self._sync(job)
        self._release({job["metadata"]["uid"] for job in jobs if not job["metadata"].get("deletionTimestamp")})

    def _sync(self, job: Json) -> None:
        verdict = self._count(job)
        spec, status = job["spec"], copy.deepcopy(job.get("status") or {})
        pods = owned(self.objects, PODS, job)
        active = [pod for pod in pods if not is_over(pod) and not pod["metadata"].get("deletionTimestamp")]
        outcomes = self.counted.get(job["metadata"]["uid"], {}).values()
        failed, succeeded = _number(outcomes, "failed"), _succeeded(spec, outcomes)
        if not spec["suspend"]:
            status.setdefault("startTime", now())
        conditions = status.get("conditions") or []
        verdict = verdict or _pending(conditions) or self._verdict(job, status, failed, succeeded, len(active))
        if verdict:
            delete_pods(self.objects, active)
            conditions = _ending(conditions, verdict, is_stopped=all(is_over(pod) for pod in pods))
            if conditions[-1]["type"] == "Complete":
                status["completionTime"] = now()
        elif spec["suspend"]:
            self._withdraw(active)
            status.pop("startTime", None)
            conditions = with_condition(conditions, condition("Suspended", "JobSuspended", "Job suspended"))
        else:
            if any(each["type"] == "Suspended" for each in conditions):
                resumed = condition("Suspended", "JobResumed", "Job resumed", is_so=False)
                conditions = with_condition(conditions, resumed)
            self._scale(job, pods, active, succeeded)
        status.update(conditions=conditions, failed=failed, succeeded=succeeded, active=len(active))
        status["ready"] = sum(is_ready(pod) for pod in active)
        status["terminating"] = sum(1 for pod in pods if pod["metadata"].get("deletionTimestamp") and not is_over(pod))
        if spec["completionMode"] == "Indexed":
            status["completedIndexes"] = _ranges(sorted(int(i) for o, i in outcomes if o == "succeeded"))
        set_status(self.objects, JOBS, job, status)

    def _count(self, job: Json) -> Json | None:
        """Counts pods that ended, once each, and lets them go. Returns the condition of a FailJob rule that matched."""
        verdict = None
        counted = self.counted.setdefault(job["metadata"]["uid"], {})
        for pod in owned(self.objects, PODS, job):
            metadata = pod["metadata"]
            is_gone = metadata.get("deletionTimestamp") and not metadata.get("deletionGracePeriodSeconds")
            if not (is_over(pod) or is_gone) or TRACKED not in (metadata.get("finalizers") or []):
                continue
            outcome = "succeeded" if pod["status"]["phase"] == "Succeeded" else "failed"
            if outcome == "failed":
                action, message = _failure_action(job, pod)
                outcome = "ignored" if action == "Ignore" else outcome
                if action == "FailJob":
                    verdict = condition("Failed", "PodFailurePolicy", message)
            counted[metadata["uid"]] = (outcome, (metadata.get("annotations") or {}).get(INDEX, ""))
            self._let_go(pod)
        return verdict

    def _withdraw(self, pods: list[Json]) -> None:
        """Deletes pods that are no failures, and so are not counted."""
        for pod in pods:
            self._let_go(pod)
        delete_pods(self.objects, (self.objects.store.get(PODS, *_place(pod)) for pod in pods))

    def _let_go(self, pod: Json) -> None:
        kept = [each for each in pod["metadata"]["finalizers"] if each != TRACKED]
        self.objects.replace(PODS, pod, {**pod, "metadata": {**pod["metadata"], "finalizers": kept}})

    def _verdict(self, job: Json, status: Json, failed: int, succeeded: int, active: int) -> Json | None:
        spec = job["spec"]
        if failed > spec["backoffLimit"]:
            return condition("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
        limit, start = spec.get("activeDeadlineSeconds"), status.get("startTime")
        if limit is not None and start and _age_s(start) >= limit:
            return condition("Failed", "DeadlineExceeded", "Job was active longer than specified deadline")
        completions = spec.get("completions")
        if (completions is None and succeeded and not active) or (completions is not None and succeeded >= completions):
            return condition("Complete", "CompletionsReached", "Reached expected number of succeeded pods")
        return None

    def _scale(self, job: Json, pods: list[Json], active: list[Json], succeeded: int) -> None:
        spec = job["spec"]
        completions = spec.get("completions")
        wanted = spec["parallelism"] if completions is None else min(spec["parallelism"], completions - succeeded)
        if completions is None and succeeded:
            wanted = len(active)  # a work queue that one pod found empty: no new ones
        running = active
        if spec.get("podFailurePolicy"):  # podReplacementPolicy Failed: a pod that stops still holds its place
            running = [pod for pod in pods if not is_over(pod)]
        self._withdraw(active[wanted:])
        for index in self._free_indexes(job, running)[: max(0, wanted - len(running))]:
            self._make(job, index)

    def _free_indexes(self, job: Json, running: list[Json]) -> list[str]:
        spec = job["spec"]
        if spec["completionMode"] != "Indexed":
            return [""] * spec["parallelism"]
        done = {index for outcome, index in self.counted[job["metadata"]["uid"]].values() if outcome == "succeeded"}
        taken = {pod["metadata"]["annotations"][INDEX] for pod in running}
        return [str(index) for index in range(spec["completions"]) if str(index) not in done | taken]

    def _make(self, job: Json, index: str) -> None:
        template, name = copy.deepcopy(job["spec"]["template"]), ""
        if index:
            hostname = f"{job['metadata']['name']}-{index}"
            name = f"{hostname}-{random_suffix()}"
            metadata, spec = template["metadata"], template["spec"]
            metadata["annotations"] = {**(metadata.get("annotations") or {}), INDEX: index}
            metadata["labels"][INDEX] = index
            spec.setdefault("hostname", hostname)
            source = {"fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.annotations['{INDEX}']"}}
            for container in [*(spec.get("initContainers") or []), *spec["containers"]]:
                added = {"name": "JOB_COMPLETION_INDEX", "valueFrom": source}
                container["env"] = [*(container.get("env") or []), added]
        make_pod(self.objects, job, template, name, [TRACKED])

    def _finished(self, job: Json) -> bool:
        conditions = (job.get("status") or {}).get("conditions") or []
        return any(each["type"] in ("Complete", "Failed") and each["status"] == "True" for each in conditions)

    def _expire(self, job: Json) -> None:
        ttl = job["spec"].get("ttlSecondsAfterFinished")
        ended = next(c for c in job["status"]["conditions"] if c["type"] in ("Complete", "Failed"))
        if ttl is not None and _age_s(ended["lastTransitionTime"]) >= ttl:
            self.objects.delete(JOBS, job, {"propagationPolicy": "Foreground"})

    def _release(self, live: set[str]) -> None:
        """Pods whose job is gone or going need no counting."""
        for pod in self.objects.store.all_of(PODS):
            is_tracked = TRACKED in (pod["metadata"].get("finalizers") or [])
            owners = {ref["uid"] for ref in pod["metadata"].get("ownerReferences") or []}
            if is_tracked and not owners & live:
                self._let_go(pod)


def _place(pod: Json) -> tuple[str, str]:
    return pod["metadata"]["namespace"], pod["metadata"]["name"]


def _pending(conditions: list[Json]) -> Json | None:
    """The end that was decided while pods were still stopping."""
    for each in conditions:
        if each["type"] in ("FailureTarget", "SuccessCriteriaMet"):
            last = "Failed" if each["type"] == "FailureTarget" else "Complete"
            return condition(last, each["reason"], each["message"])
    return None


def _ending(conditions: list[Json], verdict: Json, is_stopped: bool) -> list[Json]:
    first = "FailureTarget" if verdict["type"] == "Failed" else "SuccessCriteriaMet"
    conditions = with_condition(conditions, condition(first, verdict["reason"], verdict["message"]))
    return with_condition(conditions, verdict) if is_stopped else conditions


def _failure_action(job: Json, pod: Json) -> tuple[str, str]:
    """What the first matching rule of the pod failure policy says: (action, message)."""
    place = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
    for number, rule in enumerate((job["spec"].get("podFailurePolicy") or {}).get("rules") or []):
        if why := _exit_code(rule.get("onExitCodes"), pod, place) or _condition(rule, pod, place):
            return rule["action"], f"{why} matching {rule['action']} rule at index {number}"
    return "Count", ""


def _exit_code(on: Json | None, pod: Json, place: str) -> str:
    """The container whose exit code the rule is for, in words."""
    status = pod["status"]
    for each in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        code = ((each.get("state") or {}).get("terminated") or {}).get("exitCode", 0)
        if not on or code == 0 or on.get("containerName") not in (None, each["name"]):
            continue
        if (code in on["values"]) == (on["operator"] == "In"):
            return f"Container {each['name']} for pod {place} failed with exit code {code}"
    return ""


def _condition(rule: Json, pod: Json, place: str) -> str:
    has = {(each["type"], each["status"]) for each in pod["status"].get("conditions") or []}
    for wanted in rule.get("onPodConditions") or []:
        if (wanted["type"], wanted.get("status", "True")) in has:
            return f"Pod {place} has condition {wanted['type']}"
    return ""


def _number(outcomes: Iterable[tuple[str, str]], wanted: str) -> int:
    return sum(outcome == wanted for outcome, _ in outcomes)


def _succeeded(spec: Json, outcomes: Iterable[tuple[str, str]]) -> int:
    if spec["completionMode"] == "Indexed":
        return len({index for outcome, index in outcomes if outcome == "succeeded"})
    return _number(outcomes, "succeeded")


def _ranges(numbers: list[int]) -> str:
    """[0, 1, 2, 5, 6] -> "0-2,5,6"."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(low) if low == high else f"{low}{'-' if high - low > 1 else ','}{high}" for low, high in runs)


def _age_s(stamp: str) -> float:
    then = datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    return (datetime.now(UTC) - then).total_seconds()
