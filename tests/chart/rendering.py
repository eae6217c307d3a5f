"""Real helm over the chart: objects as the API server would get them, remembered for the length of the test run."""

import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "lrm-safety"
VALUES = {path.stem: path for path in sorted((Path(__file__).parent / "values").glob("*.yaml"))}
KUBERNETES = tuple(f"1.{minor}" for minor in range(27, 38))  # that we promise
NEWEST = f"{KUBERNETES[-1]}.0"

Object = dict[str, Any]


def helm_program() -> str | None:
    """Ours from `make .venv/bin/helm`, else one on the PATH."""
    ours = Path(sys.executable).parent / "helm"
    return str(ours) if ours.exists() else shutil.which("helm")


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = helm_program()
    assert program, "no helm: make .venv/bin/helm"
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=60)


@cache
def template(values: str, kubernetes: str = NEWEST, release: str = "lrm-safety") -> str:
    """What `helm template` prints for one of the value sets, in namespace `lrm`."""
    version = ("--kube-version", kubernetes)
    done = helm("template", release, str(CHART), "-n", "lrm", "-f", str(VALUES[values]), *version)
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def objects(values: str, kubernetes: str = NEWEST, release: str = "lrm-safety") -> list[Object]:
    return [each for each in yaml.load_all(template(values, kubernetes, release), yaml.CSafeLoader) if each]


def named(found: list[Object], kind: str, name: str) -> Object:
    """The one object of that kind and name."""
    (one,) = [each for each in found if each["kind"] == kind and each["metadata"]["name"] == name]
    return one


def pods(found: list[Object]) -> dict[str, Object]:
    """kind/name -> pod spec, of everything that makes pods: hooks and tests too."""
    specs = {}
    for each in found:
        spec = each["spec"] if each["kind"] == "Pod" else each.get("spec", {}).get("template", {}).get("spec")
        if spec:
            specs[f"{each['kind']}/{each['metadata']['name']}"] = spec
    return specs
