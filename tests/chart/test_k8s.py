"""The examples in k8s/: values that the chart takes, a queue that covers what our pods ask for, commands that exist."""

import re

import pytest
import yaml

from lrm_safety.jobs import JobSpec, cluster_config
from lrm_safety.jobs.pod_template import resources
from lrm_safety.settings import Settings
from tests.chart.rendering import CHART, ROOT, helm
from tests.chart.restricted import house_violations, violations

K8S = ROOT / "k8s"
EXAMPLES = {path.stem: path for path in sorted((K8S / "values").glob("*.yaml"))}


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_chart_takes_the_example(example: str) -> None:
    found = _rendered(example)
    described = _description(found)
    for pool in {described.training_pool, described.engine_pool}:
        assert described.pool(pool).gpus or example == "laptop"
    pods = [each["spec"]["template"]["spec"] for each in found if each["kind"] in ("Deployment", "StatefulSet", "Job")]
    assert len(pods) >= 6
    assert not [words for pod in pods for words in violations(pod) + house_violations(pod)]


def test_the_queue_covers_what_our_pods_ask_for() -> None:
    queue = {each["kind"]: each for each in _queue()}
    (group,) = queue["ClusterQueue"]["spec"]["resourceGroups"]
    described = _description(_rendered("on_prem"))
    pool = described.pool(described.training_pool)
    asked = resources(JobSpec(id="x", command=["x"], gpus=8), pool)
    assert set(asked) <= set(group["coveredResources"])
    assert {each["name"] for flavour in group["flavors"] for each in flavour["resources"]} == set(
        group["coveredResources"]
    )
    assert queue["LocalQueue"]["metadata"]["name"] == described.queue
    assert queue["LocalQueue"]["spec"]["clusterQueue"] == queue["ClusterQueue"]["metadata"]["name"]
    assert queue["ResourceFlavor"]["spec"]["nodeLabels"] == pool.node_selector


def test_the_queues_priorities_are_those_of_the_example() -> None:
    made = {each["metadata"]["name"] for each in _queue() if each["kind"] == "WorkloadPriorityClass"}
    assert made == set(_description(_rendered("on_prem")).workload_priority_classes.values())
    assert {each["apiVersion"] for each in _queue()} == {"kueue.x-k8s.io/v1beta2"}


def test_the_verdicts_job_fits_the_chart() -> None:
    """Restricted, may call the services, and names what `helm install lrm-safety` makes and holds itself."""
    (job,) = yaml.safe_load_all((K8S / "ci" / "verdict.yaml").read_text())
    template = job["spec"]["template"]
    assert not violations(template["spec"]) + house_violations(template["spec"])
    assert template["metadata"]["labels"]["lrm-safety/client"] == "true"
    found = _rendered("laptop")
    service = next(each for each in found if each["kind"] == "Deployment")["spec"]["template"]["spec"]["containers"][0]
    (container,) = template["spec"]["containers"]
    assert container["image"] == service["image"]
    configured = {each["metadata"]["name"] for each in found if each["kind"] == "ConfigMap"}
    assert {each["configMapRef"]["name"] for each in container["envFrom"]} <= configured
    mounted = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    assert mounted["tls"] == {each["name"]: each["mountPath"] for each in service["volumeMounts"]}["tls"]
    secrets = {each["secret"]["secretName"] for each in template["spec"]["volumes"] if "secret" in each}
    assert secrets == {"lrm-safety-tls-client"}


def test_ciliums_policy_is_for_those_who_ask_the_api_server() -> None:
    """The same pods as the chart's own policy, in a namespace and a release as the page has them."""
    (text,) = [
        each for each in re.findall(r"```yaml\n(.*?)```", (K8S / "README.md").read_text(), re.S) if "cilium" in each
    ]
    policy = yaml.safe_load(text)
    ours = next(
        each
        for each in _rendered("laptop")
        if each["kind"] == "NetworkPolicy" and each["metadata"]["name"] == policy["metadata"]["name"]
    )
    assert policy["metadata"]["namespace"] == "lrm"
    assert policy["spec"]["endpointSelector"] == ours["spec"]["podSelector"]


def test_the_page_names_what_exists() -> None:
    page = (K8S / "README.md").read_text()
    for name in re.findall(r"(?:-f|--config) (k8s/[\w./-]+)", page):
        assert (ROOT / name).exists(), name
    for service in Settings().addresses:
        assert service in page
    assert {path.name for path in (K8S / "values").iterdir()} <= set(re.findall(r"[a-z_]+\.yaml", page))


def _rendered(example: str) -> list[dict]:
    done = helm("template", "lrm-safety", str(CHART), "-n", "lrm", "-f", str(EXAMPLES[example]))
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.load_all(done.stdout, yaml.CSafeLoader) if each]


def _description(found: list[dict]) -> cluster_config.ClusterConfig:
    (text,) = [each["data"]["cluster.yaml"] for each in found if each["metadata"]["name"].endswith("-cluster")]
    return cluster_config.parse(text)


def _queue() -> list[dict]:
    return list(yaml.safe_load_all((K8S / "kueue.yaml").read_text()))
