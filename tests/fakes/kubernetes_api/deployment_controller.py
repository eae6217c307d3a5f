"""The Deployment controller, through ReplicaSets: as many pods as asked, a new set for a new template."""

import copy
import hashlib
import json

from tests.fakes.kubernetes_api.objects import Objects
from tests.fakes.kubernetes_api.owning import (
    condition,
    delete_pods,
    is_over,
    is_ready,
    make_pod,
    owned,
    owner_reference,
    set_status,
    with_condition,
)
from tests.fakes.kubernetes_api.refusals import Json
from tests.fakes.kubernetes_api.resources import DEPLOYMENTS, PODS, REPLICA_SETS

HASH = "pod-template-hash"


class DeploymentController:
    def __init__(self, objects: Objects) -> None:
        self.objects = objects

    def step(self) -> None:
        for deployment in self.objects.store.all_of(DEPLOYMENTS):
            if not deployment["metadata"].get("deletionTimestamp"):
                self._sync(deployment)
        for replica_set in self.objects.store.all_of(REPLICA_SETS):
            if not replica_set["metadata"].get("deletionTimestamp"):
                self._fill(replica_set)

    def _sync(self, deployment: Json) -> None:
        sets = owned(self.objects, REPLICA_SETS, deployment)
        wanted = deployment["spec"]["replicas"]
        current = self._current(deployment, sets)
        others = [each for each in sets if each["metadata"]["uid"] != current["metadata"]["uid"]]
        current = self._scale(current, wanted)
        available = _available(current)
        if available >= wanted:  # the old ones serve until the new ones do
            others = [self._scale(each, 0) for each in others]
        every = [current, *others]
        total = sum(_available(each) for each in every)
        status = copy.deepcopy(deployment.get("status") or {})
        enough = condition("Available", "MinimumReplicasAvailable", "Deployment has minimum availability.")
        if total < wanted:
            why = "Deployment does not have minimum availability."
            enough = condition("Available", "MinimumReplicasUnavailable", why, is_so=False)
        status.update(
            observedGeneration=deployment["metadata"]["generation"],
            replicas=sum((each.get("status") or {}).get("replicas", 0) for each in every),
            updatedReplicas=(current.get("status") or {}).get("replicas", 0),
            readyReplicas=total,
            availableReplicas=total,
            unavailableReplicas=max(0, wanted - total),
            conditions=with_condition(status.get("conditions") or [], enough),
        )
        set_status(self.objects, DEPLOYMENTS, deployment, status)

    def _current(self, deployment: Json, sets: list[Json]) -> Json:
        template = deployment["spec"]["template"]
        digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]
        for each in sets:
            if each["metadata"]["labels"][HASH] == digest:
                return each
        template = copy.deepcopy(template)
        template["metadata"]["labels"][HASH] = digest
        labels = template["metadata"]["labels"]
        metadata = {
            "name": f"{deployment['metadata']['name']}-{digest}",
            "labels": labels,
            "ownerReferences": [owner_reference(deployment)],
        }
        selector = {"matchLabels": {**deployment["spec"]["selector"]["matchLabels"], HASH: digest}}
        asked = {"metadata": metadata, "spec": {"replicas": 0, "selector": selector, "template": template}}
        return self.objects.create(REPLICA_SETS, deployment["metadata"]["namespace"], asked)

    def _scale(self, replica_set: Json, replicas: int) -> Json:
        asked = {**replica_set, "spec": {**replica_set["spec"], "replicas": replicas}}
        return self.objects.replace(REPLICA_SETS, replica_set, asked)

    def _fill(self, replica_set: Json) -> None:
        pods = [pod for pod in owned(self.objects, PODS, replica_set) if not pod["metadata"].get("deletionTimestamp")]
        alive = [pod for pod in pods if not is_over(pod)]
        wanted = replica_set["spec"]["replicas"]
        delete_pods(self.objects, sorted(alive, key=is_ready)[: max(0, len(alive) - wanted)])
        for _ in range(wanted - len(alive)):
            make_pod(self.objects, replica_set, replica_set["spec"]["template"])
        ready = sum(is_ready(pod) for pod in alive)
        status = {"replicas": len(alive), "readyReplicas": ready, "availableReplicas": ready}
        set_status(self.objects, REPLICA_SETS, replica_set, status)


def _available(replica_set: Json) -> int:
    return int((replica_set.get("status") or {}).get("availableReplicas", 0))
