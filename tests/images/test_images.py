"""What the images are made of; and, where `make images` has built them with buildah, what is in them."""

import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SERVICE = PROJECT["dependencies"]
EXTRAS = PROJECT["optional-dependencies"]
WORKER = SERVICE + EXTRAS["worker"]
LARGEST_SERVICE_IMAGE = 350e6
IMAGE = f"localhost/lrm-safety:{PROJECT['version']}"


@pytest.mark.parametrize(
    ("lock", "asked"),
    [
        ("service", SERVICE),
        ("worker-cpu", WORKER),
        ("worker-cuda", WORKER + EXTRAS["liger"] + EXTRAS["compiler"]),
        ("build", ["setuptools>=78"]),
    ],
)
def test_locks_hold_what_is_asked_for_and_nothing_of_where_it_came_from(lock: str, asked: list[str]) -> None:
    text = (ROOT / f"requirements/{lock}.txt").read_text()
    pinned = dict(re.findall(r"^([a-z0-9._-]+)(?:\[.*\])?==(\S+) \\$", text, re.MULTILINE))
    for requirement in map(Requirement, asked):
        version = pinned.get(canonicalize_name(requirement.name))
        assert version, f"{requirement.name} is not in {lock}.txt: make lock"
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement} is {version}: make lock"
    entries = re.split(r"\n(?=[a-z])", text.partition("\n#    make lock\n")[2].strip())
    assert len(entries) == len(pinned)
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text
    assert not re.search(r"^--?(i|f|index|extra|find)", text, re.MULTILINE)


def test_a_worker_has_the_same_packages_as_a_service() -> None:
    pins = [
        set(re.findall(r"^\S+==\S+", (ROOT / f"requirements/{name}.txt").read_text(), re.MULTILINE))
        for name in ("service", "worker-cpu", "worker-cuda")
    ]
    assert pins[0] <= pins[1]
    assert pins[0] <= pins[2]


def test_an_unknown_tool_is_refused() -> None:
    refused = subprocess.run(
        [ROOT / "requirements/build_image.sh", "kaniko", "service", "x:1"], capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert "expected docker, podman or buildah" in refused.stderr


def buildah(*arguments: str) -> str:
    return subprocess.run(["buildah", *arguments], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def container() -> Iterator[str]:
    if (
        not shutil.which("buildah")
        or subprocess.run(["buildah", "inspect", IMAGE], capture_output=True, check=False).returncode
    ):
        pytest.skip(f"needs buildah with {IMAGE}: make images IMAGE_TOOL=buildah IMAGE_REPO=localhost")
    made = buildah("from", "--pull-never", IMAGE)
    yield made
    buildah("rm", made)


def test_the_service_image_is_small_and_holds_no_trace_of_its_making(container: str) -> None:
    root = Path(buildah("mount", container))
    files = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    assert sum(path.lstat().st_size for path in files) < LARGEST_SERVICE_IMAGE
    assert not [path for path in files if path.name in ("pip.conf", "ca.crt", ".netrc")]
    assert not (root / "build").exists()
    image = json.loads(buildah("inspect", "--type", "image", IMAGE))
    config = image["OCIv1"]["config"]
    assert config["User"] == "10001"
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert not [name for name in config["Env"] if name.startswith(("PIP_", "HTTP", "http"))]


def test_any_user_can_import_every_service_and_plugin(container: str) -> None:
    program = (
        "import importlib, pkgutil, services\n"
        "for module in pkgutil.walk_packages(services.__path__, 'services.'):\n"
        "    if not module.name.endswith(('worker', '__main__')) and '.trainer.methods.' not in module.name:\n"
        "        importlib.import_module(module.name)\n"
    )
    flags = ["--isolation", "oci", "--runtime", "runc", "--user", "54321"]
    buildah("run", *flags, container, "python", "-B", "-c", program)
    assert buildah("run", *flags, container, "lrm", "--help")
