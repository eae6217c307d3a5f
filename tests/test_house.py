"""The house rules that no linter knows: sizes, names, one door for the environment, generated code as committed."""

import ast
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [
    path
    for folder in ("lrm_safety", "services")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "v1" not in path.relative_to(ROOT).parts
]
FUNCTIONS = [
    (path, node)
    for path in SOURCES
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
]
LENGTHS = sorted(node.end_lineno - node.lineno + 1 for _, node in FUNCTIONS if node.end_lineno)
TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def where(path: Path, node: ast.AST | None = None) -> str:
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"


def test_files_are_small() -> None:
    lines = {where(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert not {name: count for name, count in lines.items() if count > 400}
    assert statistics.median(lines.values()) <= 120


def test_functions_are_small() -> None:
    long = [where(p, n) for p, n in FUNCTIONS if n.end_lineno and n.end_lineno - n.lineno + 1 > 60]
    assert not long
    assert statistics.median(LENGTHS) <= 12
    assert LENGTHS[int(len(LENGTHS) * 0.9)] <= 30


def test_parameters_are_few() -> None:
    def count(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
        every = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
        return len([arg for arg in every if arg.arg not in ("self", "cls")])

    assert not [where(path, node) for path, node in FUNCTIONS if count(node) > 6 and path.parent.name != "cli"]


def test_every_file_says_what_it_is_for() -> None:
    silent = [
        where(path)
        for path in SOURCES
        if path.read_text(encoding="utf-8").strip()
        and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not silent


def test_no_junk_drawers() -> None:
    names = {"utils", "helpers", "common", "misc", "base", "manager", "handler"}
    assert not [name for name in TRACKED if names & set(Path(name).with_suffix("").parts)]


def test_the_environment_has_one_reader() -> None:
    readers = [where(p) for p in SOURCES if re.search(r"os\.environ|getenv", p.read_text(encoding="utf-8"))]
    assert readers == ["lrm_safety/settings.py:1"]


def test_no_pickle_no_eval_no_remote_code() -> None:
    forbidden = re.compile(r"\bimport pickle\b|\btrust_remote_code=True|weights_only=False|yaml\.load\(")
    assert not [where(path) for path in SOURCES if forbidden.search(path.read_text(encoding="utf-8"))]


def test_no_secrets_and_no_machine_paths_in_the_tree() -> None:
    secret = re.compile(r"hf_[A-Za-z0-9]{30,}|sk-[A-Za-z0-9]{30,}|AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY")
    machine = re.compile(r"/(?:work|root|home/(?!lrm/)[a-z]+)/")  # lrm's home is in its containers
    found = []
    for name in TRACKED:
        text = (ROOT / name).read_text(encoding="utf-8", errors="ignore")
        if secret.search(text) or (machine.search(text) and name not in ("tests/test_house.py", "Dockerfile")):
            found.append(name)
    assert not found


@pytest.mark.skipif(not (ROOT / ".venv-protos").exists(), reason="make setup makes the generator's environment")
def test_generated_code_is_what_the_protos_say(tmp_path: Path) -> None:
    python = ROOT / ".venv-protos" / "bin" / "python"
    protos = sorted(str(path) for path in (ROOT / "protos" / "lrm_safety" / "v1").glob("*.proto"))
    command = [str(python), "-m", "grpc_tools.protoc", "-I", str(ROOT / "protos"), f"--python_out={tmp_path}"]
    command += [f"--grpc_python_out={tmp_path}", f"--mypy_out=quiet:{tmp_path}", f"--mypy_grpc_out=quiet:{tmp_path}"]
    plugins = {**os.environ, "PATH": f"{python.parent}:{os.environ['PATH']}"}
    subprocess.run([*command, *protos], env=plugins, check=True)
    made, kept = tmp_path / "lrm_safety" / "v1", ROOT / "lrm_safety" / "v1"
    assert {path.name for path in made.iterdir()} == {path.name for path in kept.glob("*_pb2*.py*")}
    for path in sorted(made.iterdir()):
        assert path.read_text() == (kept / path.name).read_text(), f"{path.name}: run `make protos`"


def test_layers() -> None:
    """The contracts of .importlinter."""
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
