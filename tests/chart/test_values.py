"""Values: each documented and known to the schema, wrong ones refused with their place and with what is allowed."""

import json
import runpy
from typing import Any

import pytest
import yaml

import lrm_safety
from tests.chart.rendering import CHART, ROOT, helm

REFUSED = {
    "a value that does not exist": ("store.bucket=x", "additional properties 'bucket' not allowed"),
    "one that exists elsewhere": ("replicas=3", "additional properties 'replicas' not allowed"),
    "TLS switched off by a slip": ("tls.mode=off", "must be one of 'self', 'cert-manager', 'existing', 'none'"),
    "a store that is no S3 url": ("store.url=http://minio/lrm", "/store/url"),
    "an endpoint with a scheme": ("store.endpoint=https://minio:9000", "/store/endpoint"),
    "an endpoint without keys": ("store.endpoint=minio:9000", "set store.secret too"),
    "words for a number": ("defaults.replicas=two", "got string, want integer"),
    "a pool without memory": ("pools.h100.cpus=4", "missing property 'memoryGib'"),
    "a pool of half GPUs": ("pools.cpu.gpus=0.5", "/pools/cpu/gpus"),
    "a pool that is not there": ("enginePool=h100", 'enginePool is "h100"; pools has: cpu'),
    "an engine that runs remote code": ("images.engine=vllm/vllm-openai:v0.17.1", "take 0.18.0 or newer"),
    "internet for engines": ("networkPolicy.internet={engine}", "must be one of 'data', 'inference', 'bench', 'job'"),
    "a webhook without a secret": ("gate.webhook=true", "set gate.secret too"),
    "a webhook that nobody reaches": ("gate.webhook=true,gate.secret=x", "networkPolicy.webhookPeers"),
    "an issuer nobody asks": ("tls.issuer.name=corporate", "set it to cert-manager"),
    "fewer pods at most than at least": ("autoscaling.maxReplicas=1", "more than autoscaling.maxReplicas"),
    "a queue that has no name": ("queues.research=", "/queues/research"),
    "an unknown service": ("services.judges.replicas=2", "additional properties 'judges' not allowed"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    setting, words = REFUSED[case]
    done = helm("template", "x", str(CHART), "--set", setting)
    assert done.returncode != 0
    assert words in done.stderr


def test_every_value_has_words_and_the_readme_has_them() -> None:
    readme = runpy.run_path(str(ROOT / "helm" / "values_readme.py"))
    text = (CHART / "values.yaml").read_text()
    found = list(readme["values"](text))
    assert len(found) > 80
    assert not [each.path for each in found if len(each.words) < 8]
    assert readme["main"](["--check"]) == 0, "run `make chart`"
    assert len(text.splitlines()) <= 250


def test_the_schema_knows_every_value_and_no_other() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert set(_schema_paths(schema, schema)) - {"global"} == set(_paths(values, schema, schema))


def test_versions_agree() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == chart["version"] == lrm_safety.__version__


def _schema_paths(node: dict[str, Any], schema: dict[str, Any], path: str = "") -> list[str]:
    properties = _resolved(node, schema).get("properties")
    if not properties or _is_whole(path):
        return [path]
    inner = (_schema_paths(each, schema, f"{path}.{key}".lstrip(".")) for key, each in properties.items())
    return [found for paths in inner for found in paths]


def _paths(value: Any, node: dict[str, Any], schema: dict[str, Any], path: str = "") -> list[str]:
    properties = _resolved(node, schema).get("properties")
    if not properties or _is_whole(path):
        return [path]
    inner = (_paths(each, properties[key], schema, f"{path}.{key}".lstrip(".")) for key, each in value.items())
    return [found for paths in inner for found in paths]


def _is_whole(path: str) -> bool:
    """A value that is documented as one, whatever is in it."""
    return path in ("services", "pools", "tls.issuer") or path.endswith("resources")


def _resolved(node: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    return schema["$defs"][node["$ref"].rsplit("/", 1)[1]] if "$ref" in node else node
