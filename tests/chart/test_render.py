"""What the chart makes of its values: as recorded, valid for every Kubernetes we promise, restricted, without secrets.

`python -m tests.chart.test_render` rewrites golden/: the default in full, every other set as its difference from it.
"""

import base64
import difflib
import json
import re
from functools import cache
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from kubernetes_validate import utils as schemas

from tests.chart.rendering import CHART, KUBERNETES, VALUES, Object, helm, objects, pods, template
from tests.chart.restricted import house_violations, violations

GOLDEN = Path(__file__).parent / "golden"
OLDEST = "1.20.2"
FOREIGN = {"ServiceMonitor", "PrometheusRule", "Certificate", "Issuer"}  # custom resources: no schema in Kubernetes
schemas.schema_contents = cache(schemas.schema_contents)  # it would read megabytes of JSON for every object
LONG = "a-release-whose-name-is-as-long-as-helm-will-ever-let"


def golden(values: str) -> tuple[str, str]:
    """Name and content of a value set's golden file."""
    default = _steady(template("default"))
    if values == "default":
        return "default.yaml", default
    return f"{values}.diff", _difference(default, _steady(template(values)))


def test_lint() -> None:
    for path in VALUES.values():
        done = helm("lint", "--strict", str(CHART), "-f", str(path))
        assert done.returncode == 0, f"{path.stem}: {done.stdout}"


def test_there_is_a_golden_file_for_each_value_set_and_no_other() -> None:
    assert len(VALUES) >= 10
    assert {path.stem for path in GOLDEN.iterdir()} == set(VALUES)


@pytest.mark.parametrize("values", VALUES)
def test_golden(values: str) -> None:
    name, content = golden(values)
    assert content == (GOLDEN / name).read_text(), (
        "changed on purpose? python -m tests.chart.test_render, and read the difference"
    )


def test_every_kubernetes_that_we_promise_gets_the_same() -> None:
    """So that what is rendered for the newest can be checked against the schemas of all."""
    for values in VALUES:
        assert template(values, f"{KUBERNETES[0]}.0") == template(values), values


@pytest.mark.parametrize("version", KUBERNETES)
def test_every_object_fits_the_schemas(version: str) -> None:
    checked = 0
    for values in VALUES:
        for each in objects(values):
            if each["kind"] not in FOREIGN:
                _validate(json.dumps(each, sort_keys=True), version)
                checked += 1
    assert checked > 500


def test_the_schemas_are_strict() -> None:
    """The check above can fail: a field that Kubernetes does not know is refused."""
    wrong = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"prots": []}}
    with pytest.raises(kubernetes_validate.ValidationError):
        _validate(json.dumps(wrong), KUBERNETES[-1])


def test_an_old_cluster_gets_what_it_knows() -> None:
    versions = {(each["kind"], each["apiVersion"]) for each in objects("default", OLDEST)}
    assert ("PodDisruptionBudget", "policy/v1beta1") in versions
    probes = [
        pod["containers"][0]["startupProbe"]
        for name, pod in pods(objects("tls_none", OLDEST)).items()
        if "Deploy" in name
    ]
    assert len(probes) == 5
    assert all("exec" in probe for probe in probes)


@pytest.mark.parametrize("values", VALUES)
def test_every_pod_is_restricted(values: str) -> None:
    found = pods(objects(values))
    assert len(found) >= 6
    bad = {name: violations(pod) + house_violations(pod) for name, pod in found.items()}
    assert not {name: words for name, words in bad.items() if words}


def test_restricted_refuses() -> None:
    good = next(iter(pods(objects("default")).values()))
    assert not violations(good)
    container = good["containers"][0]
    for change in (
        {"hostNetwork": True},
        {"volumes": [{"name": "x", "hostPath": {"path": "/"}}]},
        {"securityContext": {}},
        {"securityContext": {**good["securityContext"], "runAsUser": 0}},
        {"initContainers": [{"name": "x"}]},
        {"containers": [{**container, "securityContext": {**container["securityContext"], "privileged": True}}]},
        {"containers": [{**container, "ports": [{"hostPort": 1}]}]},
    ):
        assert violations({**good, **change}), change


def test_tokens_are_mounted_where_kubernetes_is_asked() -> None:
    mounted = {name for name, pod in pods(objects("default")).items() if pod["automountServiceAccountToken"]}
    assert mounted == {
        "Deployment/lrm-safety-trainer",
        "Deployment/lrm-safety-inference",
        "Job/lrm-safety-setup",
        "Job/lrm-safety-leave",
    }


@pytest.mark.parametrize("values", VALUES)
def test_no_secret_is_rendered(values: str) -> None:
    found = objects(values)
    assert not [each for each in found if each["kind"] == "Secret"]
    for each in found:
        for name, value in _plain_environment(each):
            is_path = value.startswith("/etc/lrm/")
            assert is_path or not re.search("(KEY|SECRET|PASSWORD|TOKEN)(?!_HOST)", name), (
                f"{each['kind']} sets {name}={value}"
            )
        text = yaml.safe_dump(each)
        assert "PRIVATE KEY" not in text
        assert not [word for word in re.findall(r"[A-Za-z0-9+/]{40,}={0,2}", text) if _is_base64_of_pem(word)]


@pytest.mark.parametrize("values", VALUES)
def test_names_fit_whatever_the_release_is_called(values: str) -> None:
    assert len(LONG) == 53
    names = {text for each in objects(values, release=LONG) for text in _names(each)}
    assert len(names) > 20
    assert not {name for name in names if len(name) > 63 or not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", name)}


def test_two_long_releases_do_not_share_names() -> None:
    def made(release: str) -> set[tuple[str, str]]:
        return {(each["kind"], each["metadata"]["name"]) for each in objects("default", release=release)}

    assert not made(LONG) & made(LONG[:-1] + "x")


def test_nothing_is_made_twice() -> None:
    for values in VALUES:
        keys = [(each["kind"], each["metadata"]["name"]) for each in objects(values)]
        assert len(keys) == len(set(keys)), values


def test_notes_say_the_next_command() -> None:
    done = helm("install", "ours", str(CHART), "-n", "lrm", "--dry-run=client")
    assert done.returncode == 0, done.stderr
    notes = done.stdout.split("NOTES:", 1)[1]
    assert "helm test ours -n lrm --timeout 30m" in notes
    assert "get secret ours-lrm-safety-tls-client" in notes


@cache
def _validate(text: str, version: str) -> None:
    """Remembered: most objects are the same in most value sets."""
    used = kubernetes_validate.validate(json.loads(text), version, strict=True)
    assert used == version, f"there is no schema of {version}; that of {used} was used"


def _steady(text: str) -> str:
    """Without digests of other files, which would change every line below them."""
    return re.sub(r"(lrm-safety/config: )[0-9a-f]{64}", r"\1<digest>", text)


def _difference(default: str, other: str) -> str:
    lines = difflib.unified_diff(default.splitlines(), other.splitlines(), "default", "this", lineterm="", n=2)
    return "\n".join("@@" if line.startswith("@@") else line for line in lines) + "\n"


def _plain_environment(found: Object) -> list[tuple[str, str]]:
    pairs = [(key, value) for key, value in found.get("data", {}).items() if found["kind"] == "ConfigMap"]
    for pod in pods([found]).values():
        for container in pod["containers"]:
            pairs += [(each["name"], each["value"]) for each in container.get("env", []) if "value" in each]
    return pairs


def _is_base64_of_pem(word: str) -> bool:
    try:
        return b"-----BEGIN" in base64.b64decode(word)
    except ValueError:
        return False


def _names(found: Object) -> list[str]:
    """Everything in it that Kubernetes takes for a name or a label's value."""
    metadata = found["metadata"]
    names = [metadata["name"], *metadata.get("labels", {}).values()]
    for pod in pods([found]).values():
        names += [pod["serviceAccountName"], *(volume["name"] for volume in pod.get("volumes", []))]
        names += [
            source["secretRef"]["name"]
            for c in pod["containers"]
            for source in c.get("envFrom", [])
            if "secretRef" in source
        ]
    names += [f"{metadata['name']}-12345"] if found["kind"] == "Job" else []  # a Job's pods carry its name as a label
    names += [f"{metadata['name']}-1234567890"] if found["kind"] == "StatefulSet" else []
    return [name.lower() for name in names]


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for stale in GOLDEN.iterdir():
        stale.unlink()
    for each in VALUES:
        file, text = golden(each)
        (GOLDEN / file).write_text(text)
