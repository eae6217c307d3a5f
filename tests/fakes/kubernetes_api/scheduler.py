"""The scheduler: binds a pod to the first node where it fits, or says in the real one's words why none does."""

from collections import Counter

from tests.fakes.kubernetes_api.objects import Objects
from tests.fakes.kubernetes_api.owning import condition, is_over, record, set_status, with_condition
from tests.fakes.kubernetes_api.quantities import amount, requests
from tests.fakes.kubernetes_api.refusals import Json
from tests.fakes.kubernetes_api.resources import NODES, PODS


def schedule(objects: Objects) -> None:
    nodes = objects.store.all_of(NODES)
    free = {node["metadata"]["name"]: _allocatable(node) for node in nodes}
    waiting = []
    for pod in objects.store.all_of(PODS):
        place = pod["spec"].get("nodeName")
        if place in free and not is_over(pod):
            free[place].subtract(_needs(pod))
        elif not place and not is_over(pod) and not pod["metadata"].get("deletionTimestamp"):
            waiting.append(pod)
    for pod in sorted(waiting, key=lambda pod: int(pod["metadata"]["resourceVersion"])):
        reasons: Counter[str] = Counter()
        for node in nodes:
            lacking = _reasons(pod, node, free[node["metadata"]["name"]])
            if not lacking:
                bind(objects, pod, node["metadata"]["name"])
                free[node["metadata"]["name"]].subtract(_needs(pod))
                break
            reasons.update(lacking)
        else:
            _tell(objects, pod, len(nodes), reasons)


def bind(objects: Objects, pod: Json, node: str) -> None:
    bound = objects.replace(PODS, pod, {**pod, "spec": {**pod["spec"], "nodeName": node}})
    conditions = with_condition((pod.get("status") or {}).get("conditions") or [], condition("PodScheduled", "", ""))
    set_status(objects, PODS, bound, {**bound["status"], "conditions": conditions})


def _tell(objects: Objects, pod: Json, nodes: int, reasons: Counter[str]) -> None:
    listed = ", ".join(f"{number} {reason}" for reason, number in sorted(reasons.items()))
    message = f"0/{nodes} nodes are available: {listed}." if nodes else "no nodes available to schedule pods"
    told = condition("PodScheduled", "Unschedulable", message, is_so=False)
    conditions = with_condition(pod["status"].get("conditions") or [], told)
    if conditions != pod["status"].get("conditions"):
        record(objects, pod, "FailedScheduling", message)
        set_status(objects, PODS, pod, {**pod["status"], "conditions": conditions})


def _reasons(pod: Json, node: Json, free: Counter[str]) -> list[str]:
    spec = pod["spec"]
    labels = node["metadata"].get("labels") or {}
    reasons = []
    if node.get("spec", {}).get("unschedulable"):
        reasons.append("node(s) were unschedulable")
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        reasons.append("node(s) didn't match Pod's node affinity/selector")
    for taint in node.get("spec", {}).get("taints") or []:
        tolerated = any(_tolerates(each, taint) for each in spec.get("tolerations") or [])
        if taint["effect"] in ("NoSchedule", "NoExecute") and not tolerated:
            reasons.append(f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}")
            break
    if reasons:
        return reasons
    return [f"Insufficient {name}" for name, value in _needs(pod).items() if value > free[name] + 1e-9]


def _tolerates(toleration: Json, taint: Json) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return toleration.get("key") in (None, "", taint["key"])
    return (toleration.get("key"), toleration.get("value", "")) == (taint["key"], taint.get("value", ""))


def _needs(pod: Json) -> Counter[str]:
    return Counter({"pods": 1}) + requests(pod["spec"])


def _allocatable(node: Json) -> Counter[str]:
    status = node.get("status") or {}
    has = status.get("allocatable") or status.get("capacity") or {}
    free: Counter[str] = Counter({name: amount(value) for name, value in has.items()})
    free.setdefault("pods", 110)
    return free
