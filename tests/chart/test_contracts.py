"""What the chart promises the code, and the code the chart: settings, rights, calls, mounts."""

import re
from pathlib import Path

import pytest
import yaml

from lrm_safety import tls
from lrm_safety.jobs import JobSpec, cluster_config, kube
from lrm_safety.jobs.manifests import FETCHING_LABEL, owner
from lrm_safety.recipe import load
from lrm_safety.settings import SERVICES, Settings
from services.certificates import Wanted
from tests.chart.rendering import VALUES, Object, named, objects, pods


@pytest.mark.parametrize("values", VALUES)
def test_services_read_their_settings(values: str) -> None:
    (env,) = [each["data"] for each in objects(values) if each["metadata"]["name"].endswith("-env")]
    settings = Settings.from_env(env)
    assert settings.jobs == "cluster"
    assert settings.is_plain_text == (settings.tls_dir is None) == (values == "tls_none")
    known = set(settings.to_env()) | {"HOME"}
    assert not set(env) - known
    found = objects(values)
    for service, address in settings.addresses.items():
        name, _, port = address.partition(":")
        ports = {each["name"]: each["port"] for each in named(found, "Service", name)["spec"]["ports"]}
        is_told = values == "gate" and service == "bench"
        webhook = {"webhook": settings.webhook_port} if is_told else {}
        assert ports == {"grpc": int(port), "metrics": settings.metrics_ports[service], **webhook}


@pytest.mark.parametrize("values", VALUES)
def test_jobs_are_described_as_the_code_reads_it(values: str) -> None:
    found = objects(values)
    (text,) = [each["data"]["cluster.yaml"] for each in found if each["metadata"]["name"].endswith("-cluster")]
    config = cluster_config.parse(text)
    accounts = {each["metadata"]["name"] for each in found if each["kind"] == "ServiceAccount"}
    assert config.service_account in accounts
    classes = {each["metadata"]["name"] for each in found if each["kind"] == "PriorityClass"}
    if classes:
        assert set(config.priority_classes.values()) == classes


def test_values_reach_the_description() -> None:
    gpu = _description("gpu_pools")
    assert (gpu.training_pool, gpu.engine_pool) == ("h100", "l4")
    assert gpu.pool("h100").gpus == 8
    assert gpu.pool("h100").has_fast_bf16
    assert gpu.pool("l4").model_cache == "models"
    assert (_description("default").engine_uid, _description("openshift").engine_uid) == (10001, 0)
    shared = _description("tenancy")
    assert (shared.queue, shared.queues) == ("safety", {"research": "lrm-research", "Red team": "lrm-red-team"})
    assert shared.priority_classes["filler"] == "preemptible"
    assert shared.workload_priority_classes["urgent"] == "urgent"
    assert _description("mirror").image_pull_secrets == ["registry"]


def test_rights_are_those_the_code_lists() -> None:
    """The table in the docstring of kube.py, for the two services that ask the API server; nothing for the others."""
    table = [re.split(r" {2,}", line.strip()) for line in (kube.__doc__ or "").splitlines() if line.startswith("    ")]
    (_, _, *services), *rows = table
    assert len(rows) >= 7
    found = objects("default")
    for place, service in enumerate(services, 2):
        wanted = {(row[0].strip('"'), row[1]): set(row[place].split()) for row in rows}
        assert _rights(named(found, "Role", f"lrm-safety-{service}")) == wanted
    holders = [
        (each["roleRef"]["name"], [subject["name"] for subject in each["subjects"]])
        for each in found
        if each["kind"] == "RoleBinding" and "helm.sh/hook" not in each["metadata"].get("annotations", {})
    ]
    assert sorted(holders) == sorted((f"lrm-safety-{each}", [f"lrm-safety-{each}"]) for each in services)
    assert set(services) == {"trainer", "inference"}
    assert not [each for each in found if each["kind"].startswith("ClusterRole")]


def test_no_service_writes_what_the_other_makes() -> None:
    found = objects("default")
    trainer, inference = (_rights(named(found, "Role", f"lrm-safety-{each}")) for each in ("trainer", "inference"))
    writing = {"create", "patch", "delete", "update"}
    assert trainer["batch", "jobs"] & writing
    assert inference["apps", "deployments"] & writing
    assert not trainer["apps", "deployments"] & writing
    assert not inference["batch", "jobs"] & writing


def test_the_setup_may_read_only_the_secrets_it_makes() -> None:
    rights = named(objects("default"), "Role", "lrm-safety-setup")["rules"]
    holders = [*SERVICES, "ca", "client"]
    named_rule = next(rule for rule in rights if "resourceNames" in rule)
    assert set(named_rule["resourceNames"]) == {"lrm-safety-store", *(f"lrm-safety-tls-{each}" for each in holders)}
    assert [rule["verbs"] for rule in rights if "resourceNames" not in rule] == [["create"]]


def test_who_may_ask_whom_is_the_same_on_the_wire_and_in_the_network() -> None:
    found = objects("default")
    for service in SERVICES:
        ingress = named(found, "NetworkPolicy", f"lrm-safety-to-{service}")["spec"]["ingress"]
        (calls,) = [rule for rule in ingress if rule["ports"] == [{"port": "grpc"}]]
        callers = {name for peer in calls["from"] for name in _components(peer["podSelector"])}
        allowed = {who for who, services in tls.MAY_ASK.items() if service in services}
        assert callers == (allowed - {tls.CLIENT}) | {"test"}
        assert {"podSelector": {"matchLabels": {"lrm-safety/client": "true"}}} in calls["from"]


@pytest.mark.parametrize("values", VALUES)
def test_everything_is_denied_first(values: str) -> None:
    everyone = {"matchLabels": {"app.kubernetes.io/instance": "lrm-safety"}}
    policies = [each["spec"] for each in objects(values) if each["kind"] == "NetworkPolicy"]
    of_everyone = [spec for spec in policies if spec["podSelector"] == everyone]
    denied = {"podSelector": everyone, "policyTypes": ["Ingress", "Egress"]}
    assert of_everyone == ([] if values == "placed" else [denied])  # there the policies are switched off


def test_an_engine_reaches_the_store_until_it_has_its_weights_and_then_nothing() -> None:
    """By the labels that its pods have in the code: as the Deployment makes them, and with one of them taken away."""
    found = objects("default")
    labels = _engine_labels(_description("default"))
    assert _egress(found, labels) == ["lrm-safety-all", "lrm-safety-store-fetching"]
    assert len(named(found, "NetworkPolicy", "lrm-safety-store-fetching")["spec"]["egress"]) == 2  # DNS, the store
    del labels[FETCHING_LABEL]
    assert _egress(found, labels) == ["lrm-safety-all"]
    ingress = named(found, "NetworkPolicy", "lrm-safety-to-engine")["spec"]["ingress"]
    assert {name for peer in ingress[0]["from"] for name in _components(peer["podSelector"])} == {"inference"}
    for component in (*SERVICES, "job", "setup", "test"):
        others = {**labels, "app.kubernetes.io/component": component}
        assert "lrm-safety-store-all-but-engines" in _egress(found, others)


def test_a_store_in_the_cluster_is_reached_by_labels_and_on_its_pods_port() -> None:
    """Policies see the pods behind a Service, and their port; Cilium's blocks of addresses are never pods."""
    for policy in ("all-but-engines", "fetching"):
        _, store = named(objects("tenancy"), "NetworkPolicy", f"lrm-safety-store-{policy}")["spec"]["egress"]
        assert {each["port"] for each in store["ports"]} == {443, 9000}
        assert [each["podSelector"]["matchLabels"] for each in store["to"] if "podSelector" in each] == [
            {"app": "minio"}
        ]
    _, alone = named(objects("external_store"), "NetworkPolicy", "lrm-safety-store-fetching")["spec"]["egress"]
    assert alone["ports"] == [{"port": 443}]


def test_names_are_asked_for_where_dns_answers() -> None:
    for values, port in (("default", 53), ("openshift", 5353)):
        dns, _ = named(objects(values), "NetworkPolicy", "lrm-safety-store-fetching")["spec"]["egress"]
        assert {(each["protocol"], each["port"]) for each in dns["ports"]} == {("UDP", port), ("TCP", port)}


@pytest.mark.parametrize("values", ["cert_manager", "cert_manager_issuer"])
def test_cert_manager_makes_what_our_own_job_would(values: str) -> None:
    found = objects(values)
    assert not [each for each in found if each["kind"] == "Job" and each["metadata"]["name"].endswith("-setup")] or (
        "--keys-only" in pods(found)["Job/lrm-safety-setup"]["containers"][0]["command"]
    )
    for holder in (*SERVICES, tls.CLIENT):
        spec = named(found, "Certificate", f"lrm-safety-{holder}")["spec"]
        assert spec["commonName"] == holder
        assert spec["secretName"] == f"lrm-safety-tls-{holder}"
        assert set(Wanted("lrm-safety", "lrm").server_names(holder)) <= set(spec["dnsNames"])


def test_each_service_shows_its_own_certificate() -> None:
    for name, pod in pods(objects("default")).items():
        if name.startswith("Deployment/"):
            secrets = {each["secret"]["secretName"] for each in pod["volumes"] if "secret" in each}
            assert secrets == {f"lrm-safety-tls-{name.removeprefix('Deployment/lrm-safety-')}"}


def test_data_is_read_only_and_only_where_it_is_read() -> None:
    found = pods(objects("placed"))
    readers = {
        name
        for name, pod in found.items()
        for mount in pod["containers"][0]["volumeMounts"]
        if name.startswith("Deployment/") and mount["mountPath"] == "/data" and mount["readOnly"]
    }
    assert readers == {"Deployment/safety-data", "Deployment/safety-bench"}


def test_the_suite_of_helm_test_is_a_recipe(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(named(objects("default"), "ConfigMap", "lrm-safety-test")["data"]["recipe.yaml"])
    recipe = load(file)
    assert [each.benchmark for each in recipe.evaluation.benchmarks] == ["demo_harm", "demo_benign"]
    assert not recipe.HasField("training")


def _description(values: str) -> cluster_config.ClusterConfig:
    return cluster_config.parse(named(objects(values), "ConfigMap", "lrm-safety-cluster")["data"]["cluster.yaml"])


def _engine_labels(config: cluster_config.ClusterConfig) -> dict[str, str]:
    spec = JobSpec(id="engine-1", command=["x"], port=8000, weights="m@1", kind="engine")
    return dict(owner(spec, config, Settings())["spec"]["template"]["metadata"]["labels"])


def _egress(found: list[Object], labels: dict[str, str]) -> list[str]:
    """Names of the policies that say where pods with such labels may go."""
    return sorted(
        each["metadata"]["name"]
        for each in found
        if each["kind"] == "NetworkPolicy"
        and "Egress" in each["spec"]["policyTypes"]
        and _selects(each["spec"]["podSelector"], labels)
    )


def _selects(selector: Object, labels: dict[str, str]) -> bool:
    has = {key: labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()}
    for each in selector.get("matchExpressions", []):
        has[each["key"]] = (labels.get(each["key"]) in each["values"]) == (each["operator"] == "In")
    return all(has.values())


def _rights(role: Object) -> dict[tuple[str, str], set[str]]:
    return {
        (group, resource): set(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def _components(selector: Object) -> set[str]:
    """Which components a selector is for; none where it is for all."""
    label = "app.kubernetes.io/component"
    listed = [each["values"] for each in selector.get("matchExpressions", []) if each["key"] == label]
    return {name for values in listed for name in values} | {
        value for key, value in selector.get("matchLabels", {}).items() if key == label
    }


def test_yaml_in_yaml_is_a_mapping() -> None:
    for values in VALUES:
        for each in objects(values):
            for name, text in each.get("data", {}).items() if each["kind"] == "ConfigMap" else ():
                if name.endswith((".yaml", ".json")):
                    assert isinstance(yaml.safe_load(text), dict)
