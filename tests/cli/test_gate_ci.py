"""The files of k8s/ci: they parse, and every command in them is one that the CLI takes, with files that exist."""

import re
import shlex
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer
import yaml

from lrm_safety import __version__, policy
from lrm_safety.cli import app
from lrm_safety.settings import FIRST_PORT, SERVICES, Settings
from services.certificates import Wanted
from tests.chart.restricted import violations

CI = Path(__file__).resolve().parents[2] / "k8s" / "ci"
ROOT = CI.parents[1]
PIPELINES = ("github_actions", "gitlab", "tekton", "argo")
IN_PODS = ("tekton", "argo")
ENV = set(Settings().to_env())


def tree(name: str) -> Any:
    return yaml.safe_load((CI / f"{name}.yaml").read_text())


def texts(node: Any) -> list[str]:
    """Every text in a tree; a list of words that starts with `lrm` counts as a command."""
    if isinstance(node, list) and node[:1] == ["lrm"]:
        return [shlex.join(node)]
    if isinstance(node, dict | list):
        return [text for each in (node.values() if isinstance(node, dict) else node) for text in texts(each)]
    return [node] if isinstance(node, str) else []


def commands(name: str) -> list[list[str]]:
    lines = [line.strip() for text in texts(tree(name)) for line in text.splitlines()]
    return [shlex.split(line) for line in lines if line.startswith("lrm ")]


@pytest.mark.parametrize("name", PIPELINES)
def test_the_commands_exist(name: str) -> None:
    (words,) = commands(name)
    group: Any = typer.main.get_command(app)
    command = group.commands[words[1]]
    asked = command.make_context("lrm", words[2:]).params
    assert words[1] == "gate"
    assert asked["wait"] is True
    assert asked["checkpoint"] and asked["out"]
    in_tree = ROOT / asked["policy"]
    assert in_tree.is_file() or str(asked["policy"]) == "/etc/lrm/gate/gate.yaml"


@pytest.mark.parametrize("name", PIPELINES)
def test_images_and_settings_are_ours(name: str) -> None:
    text = (CI / f"{name}.yaml").read_text()
    assert set(re.findall(r"lrm-safety/lrm-safety:([\w.]+)", text)) == {__version__}
    used = set(re.findall(r"LRM_[A-Z]+(?:_[A-Z]+)*", text))
    assert used - ENV <= {"LRM_CA", "LRM_CERT", "LRM_CERT_KEY"}  # the pipeline's own
    addresses = dict(re.findall(r"LRM_([A-Z]+)_ADDR: (\S+)", text))
    for service, address in addresses.items():
        host, _, port = address.partition(":")
        assert host in Wanted("lrm-safety", "lrm").server_names(service.lower())
        assert int(port) == FIRST_PORT + SERVICES.index(service.lower())
    assert set(addresses) in (set(), {service.upper() for service in SERVICES})


@pytest.mark.parametrize("name", IN_PODS)
def test_their_pods_are_restricted_and_fit_the_schemas(name: str) -> None:
    spec = tree(name)["spec"]
    if name == "tekton":
        (step,) = spec["steps"]
        container = {key: value for key, value in step.items() if key not in ("timeout", "computeResources")}
        container["resources"] = step["computeResources"]
    else:
        container = {**spec["templates"][0]["container"], "name": "gate"}
    pod = {"containers": [container], "volumes": spec["volumes"]}
    if "securityContext" in spec:
        pod["securityContext"] = spec["securityContext"]
    for version in ("1.27", "1.37"):
        made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "gate"}, "spec": pod}
        kubernetes_validate.validate(made, version, strict=True)
    assert not violations(pod)
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}


def test_pipelines_ask_for_files_that_lrm_gate_writes() -> None:
    assert tree("gitlab")["gate"]["artifacts"]["reports"]["junit"] == "verdict/junit.xml"
    steps = tree("github_actions")["jobs"]["gate"]["steps"]
    assert any("verdict/summary.md" in step.get("run", "") for step in steps)
    shell = [step["run"] for step in steps if "run" in step]
    assert not [text for text in shell if "${{" in text]  # inputs reach a shell as variables, never as its text


def test_the_policy_is_one_also_with_what_is_commented_out(tmp_path: Path) -> None:
    made = policy.load(CI / "gate.yaml")
    assert made.name == "gate"
    assert policy.concerns(made, "anything")
    text = re.sub(r"^# (?=baseline|callbacks|  - )", "", (CI / "gate.yaml").read_text(), flags=re.M)
    (tmp_path / "gate.yaml").write_text(text)
    whole = policy.load(tmp_path / "gate.yaml")
    assert (whole.baseline, len(whole.callbacks)) == ("smollm2-135m-instruct", 2)
