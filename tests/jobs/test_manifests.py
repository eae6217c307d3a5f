"""What jobs are made of: as recorded, valid for every Kubernetes we promise, restricted, without keys, ≤ 3 objects.

`python -m tests.jobs.test_manifests` rewrites golden/.
"""

import copy
from dataclasses import replace
from functools import cache
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from kubernetes_validate import utils as schemas

from lrm_safety.errors import InvalidInput
from lrm_safety.jobs import JobSpec, cluster_config, manifests
from lrm_safety.jobs.kube import Object
from lrm_safety.settings import Settings
from tests.chart.rendering import KUBERNETES
from tests.chart.restricted import house_violations, violations

GOLDEN = Path(__file__).parent / "golden"
schemas.schema_contents = cache(schemas.schema_contents)  # it would read megabytes of JSON for every object
CONFIG = cluster_config.parse("""
namespace: lrm
release: lrm-safety
images:
  service: {image: "ghcr.io/lrm/lrm-safety:1"}
  worker: {image: "ghcr.io/lrm/lrm-safety-worker:1"}
  engine: {image: "docker.io/vllm/vllm-openai:v0.18.0", pull_policy: Always}
image_pull_secrets: [registry]
env_from: [{secretRef: {name: lrm-safety-store}}]
service_account: lrm-safety-job
queue: team-a
priority_classes: {urgent: "", normal: "", filler: low}
workload_priority_classes: {urgent: lrm-urgent}
training_pool: cpu
engine_pool: h200
pools:
  cpu: {cpus: 4, memory_gib: 16}
  h200:
    cpus: 96
    memory_gib: 1500
    gpus: 8
    has_fast_bf16: true
    node_selector: {cloud.google.com/gke-accelerator: nvidia-h200-141gb}
    tolerations: [{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}]
    runtime_class: nvidia
    shm_gib: 64
    scratch_gib: 200
    gpu_hour_price: 4.5
    model_cache: lrm-models
""")
SETTINGS = Settings(
    store="s3://lrm/store",
    s3_endpoint="minio.lrm:9000",
    s3_access_key="ACCESS",
    s3_secret_key="SECRET",
    api_key="VENDOR",
    tls_dir=Path("/tls"),
    team="platform",
)
IMPORT = JobSpec(
    id="import-1f3a-1",
    command=["python", "-m", "services.trainer.import_worker", "import-1f3a", "1", "costs $5 $(NODE_RANK)"],
    env={"OMP_NUM_THREADS": "1"},
    memory_gib=3,
    kind="import",
    run="import-1f3a",
    team="Safety & Co.",
    cost_centre="4711",
    priority="filler",
)
TRAINING = JobSpec(
    id="training-1f3a-2",
    command=["torchrun", "--node-rank=$(NODE_RANK)", "--master-addr=$(MASTER_ADDR)", "--master-port=$(MASTER_PORT)"],
    cpus=90,
    memory_gib=1200.5,
    gpus=8,
    nodes=2,
    node_pool="h200",
    kind="training",
    run="training-1f3a",
    priority="urgent",
)
ENGINE = JobSpec(
    id="engine-base-1a2b3c4d-1",
    command=["python3", "-m", "vllm.entrypoints.openai.api_server", "--port=8000"],
    cpus=8,
    memory_gib=80,
    gpus=1,
    image="engine",
    port=8000,
    replicas=2,
    weights="base@0f0f",
    kind="engine",
)
JOBS = {"import": IMPORT, "training_of_two_nodes": TRAINING, "engine_of_two_replicas": ENGINE}


def objects(spec: JobSpec, config: cluster_config.ClusterConfig = CONFIG) -> list[Object]:
    owner = manifests.owner(spec, config, SETTINGS)
    made = copy.deepcopy(owner)
    made["metadata"]["uid"] = "11111111-2222-3333-4444-555555555555"
    service = manifests.service(spec, config, made)
    return [owner, service] if service else [owner]


def golden(name: str) -> str:
    return yaml.dump_all(objects(JOBS[name]), Dumper=Plain, sort_keys=False, width=110)


class Plain(yaml.SafeDumper):
    """What is said twice is written twice."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def pod_of(owner: Object) -> Object:
    return owner["spec"]["template"]["spec"]


def env_of(container: Object) -> dict[str, str]:
    return {each["name"]: each.get("value", "") for each in container["env"]}


@pytest.mark.parametrize("name", JOBS)
def test_golden(name: str) -> None:
    assert golden(name) == (GOLDEN / f"{name}.yaml").read_text(), (
        "changed on purpose? python -m tests.jobs.test_manifests, and read the difference"
    )


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("name", JOBS)
def test_every_object_fits_the_schemas(name: str, version: str) -> None:
    made = objects(JOBS[name])
    assert 1 <= len(made) <= 3
    for each in made:
        assert kubernetes_validate.validate(each, version, strict=True) == version


@pytest.mark.parametrize("name", JOBS)
def test_pods_are_restricted(name: str) -> None:
    pod = pod_of(objects(JOBS[name])[0])
    assert violations(pod) == house_violations(pod) == []
    assert pod["automountServiceAccountToken"] is False
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        assert container["resources"]["requests"] == container["resources"]["limits"]


def test_keys_come_from_secrets_and_only_to_who_reads_the_store() -> None:
    for spec in JOBS.values():
        text = yaml.safe_dump_all(objects(spec))
        assert not any(key in text for key in ("ACCESS", "SECRET", "VENDOR", "LRM_TLS", "LRM_JOBS"))
    pod = pod_of(objects(ENGINE)[0])
    assert "envFrom" not in pod["containers"][0]
    assert pod["initContainers"][0]["envFrom"] == CONFIG.env_from
    assert pod_of(objects(IMPORT)[0])["containers"][0]["envFrom"] == CONFIG.env_from


def test_nothing_is_expanded_but_the_rendezvous_of_several_nodes() -> None:
    assert pod_of(objects(IMPORT)[0])["containers"][0]["command"][-1] == "costs $$5 $$(NODE_RANK)"
    container = pod_of(objects(replace(TRAINING, command=["a", "$(NODE_RANK)", "$(HOME) $5"]))[0])["containers"][0]
    assert container["command"] == ["a", "$(NODE_RANK)", "$$(HOME) $$5"]
    assert env_of(container)["MASTER_ADDR"] == f"{TRAINING.id}-0.{TRAINING.id}"


def test_a_queue_is_labels_and_never_a_suspended_job() -> None:
    metadata = objects(TRAINING)[0]["metadata"]
    assert metadata["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    assert metadata["labels"]["kueue.x-k8s.io/priority-class"] == "lrm-urgent"
    assert "suspend" not in objects(TRAINING)[0]["spec"]
    without = objects(TRAINING, replace(CONFIG, queue=""))[0]["metadata"]
    assert not [name for name in without["labels"] if "kueue" in name]


def test_a_team_that_has_a_queue_is_in_it_and_every_other_in_that_of_all() -> None:
    teams = replace(CONFIG, queues={"Safety & Co.": "safety"})

    def queue(config: cluster_config.ClusterConfig, team: str) -> str | None:
        return objects(replace(IMPORT, team=team), config)[0]["metadata"]["labels"].get(manifests.QUEUE_LABEL)

    assert [queue(teams, team) for team in ("Safety & Co.", "Safety-Co", "")] == ["safety", "team-a", "team-a"]
    only = replace(teams, queue="")
    assert [queue(only, team) for team in ("Safety & Co.", "other")] == ["safety", None]


def test_the_model_cache_is_written_by_who_verifies_and_only_read_by_the_engine() -> None:
    pod = pod_of(objects(ENGINE)[0])
    (writes,) = [each for each in pod["initContainers"][0]["volumeMounts"] if each["name"] == "models"]
    (reads,) = [each for each in pod["containers"][0]["volumeMounts"] if each["name"] == "models"]
    assert (writes["readOnly"], reads["readOnly"]) == (False, True)
    assert writes["mountPath"] == reads["mountPath"] == "/var/lib/lrm/models"
    alone = replace(CONFIG, pools={**CONFIG.pools, "h200": replace(CONFIG.pools["h200"], model_cache="")})
    assert "models" not in [each["name"] for each in pod_of(objects(ENGINE, alone)[0])["volumes"]]


def test_an_engine_is_no_root_and_of_the_platforms_users_where_it_gives_them() -> None:
    """OpenShift refuses a pod that names a user or a group outside of its namespace's range."""
    pod = pod_of(objects(ENGINE)[0])
    assert pod["containers"][0]["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == 10001
    given = pod_of(objects(ENGINE, replace(CONFIG, engine_uid=0))[0])
    assert not any(name in str(given) for name in ("runAsUser", "fsGroup"))
    assert violations(given) == []


def test_labels_hold_what_labels_can() -> None:
    assert manifests.label_value("Safety & Co.") == "Safety-Co"
    assert manifests.label_value("x" * 80) == "x" * 63
    assert manifests.label_value("…") == ""


def test_the_digest_is_of_the_whole_spec() -> None:
    assert manifests.digest(IMPORT) == manifests.digest(replace(IMPORT))
    assert manifests.digest(IMPORT) != manifests.digest(replace(IMPORT, env={"OMP_NUM_THREADS": "2"}))


@pytest.mark.parametrize(
    ("wishes", "says"),
    [
        ({"node_pool": "tpu"}, "node_pool is 'tpu'; this cluster has cpu, h200"),
        ({"gpus": 1}, "gpus is 1; a node of its pool has 0"),
        ({"cpus": 5}, "cpus is 5; a node of its pool has 4"),
        ({"memory_gib": 17}, "memory_gib is 17; a node of its pool has 16"),
        ({"image": "judge"}, "image is 'judge'; this cluster has engine, service, worker"),
        ({"priority": "now"}, "priority is 'now'; expected urgent, normal, filler"),
        ({"nodes": 0}, "is less than 1"),
        ({"nodes": 2, "port": 80}, "nodes of a server is 2"),
        ({"nodes": 11, "id": "x" * 61}, "at most 60 characters"),
    ],
)
def test_what_this_cluster_can_never_run_is_refused_by_name(wishes: dict[str, object], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        manifests.owner(replace(IMPORT, **wishes), CONFIG, SETTINGS)


if __name__ == "__main__":
    for each in JOBS:
        (GOLDEN / f"{each}.yaml").write_text(golden(each))
