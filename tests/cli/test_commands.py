"""The lrm command as a user meets it: help with an example, JSON, exit codes, errors that say what to do."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import typer

from lrm_safety import costs, jsonl
from lrm_safety.cli import app
from lrm_safety.nouns import Cost, Run, RunSpec, RunState, Tenant
from lrm_safety.settings import Settings
from lrm_safety.store import ObjectStore, open_store
from tests.conftest import free_ports
from tests.exports.measured import measured_run

LRM = str(Path(sys.executable).parent / "lrm")


def commands(group: Any, *path: str) -> list[tuple[tuple[str, ...], Any]]:
    found: list[tuple[tuple[str, ...], Any]] = []
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            found += commands(command, *path, name)
        else:
            found.append(((*path, name), command))
    return found


ALL = commands(typer.main.get_command(app))


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    (port,) = free_ports(1)
    addresses = {f"LRM_{name}_ADDR": f"127.0.0.1:{port}" for name in ("DATA", "TRAINER", "INFERENCE", "JUDGE", "BENCH")}
    places = {"LRM_STATE": f"{tmp_path}/state", "LRM_STORE": f"file://{tmp_path}/store", "LRM_METRICS_PORT": "0"}
    return {**os.environ, **addresses, **places, "COLUMNS": "200", "NO_COLOR": "1"}


def lrm(env: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([LRM, *words], env=env, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(("path", "command"), ALL, ids=[" ".join(path) for path, _ in ALL])
def test_every_command_has_help_with_an_example(path: tuple[str, ...], command: Any) -> None:
    assert command.help
    assert (command.epilog or "").startswith(f"Example: lrm {' '.join(path)}")
    options = [each for each in command.params if each.param_type_name == "option"]
    assert len(options) <= 8


def test_lists_need_no_service(env: dict[str, str]) -> None:
    for kind, expected in (
        ("judges", {"refusal", "xstest3", "policy15", "reasoning_shield", "math_equal"}),
        ("attacks", {"none", "prefill", "template"}),
        ("benchmarks", {"demo_harm", "demo_benign", "demo_math", "strongreject", "xstest", "math500", "gsm8k"}),
        ("builders", {"direct_refusal", "nocot", "star1"}),
        ("sources", {"jsonl", "json", "csv", "parquet", "hub"}),
        ("methods", {"sft"}),
    ):
        done = lrm(env, "list", kind, "--json")
        assert done.returncode == 0, done.stderr
        listed = {plugin["name"]: plugin.get("summary", "") for plugin in json.loads(done.stdout)}
        assert expected <= set(listed) and all(listed.values())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("list", "jugdes"), "there are: judges, attacks"),
        (("run", "nowhere.yaml"), "there is no recipe nowhere.yaml"),
        (("score", "--judge", "nobody", "--in", "README.md", "--out", "x"), "refusal"),
        (("gate", "a", "b", "--margin", "harm"), "role=share"),
        (("run", "recipes/demo.yaml", "--priority", "high"), "expected one of urgent, normal, filler"),
        (("cost", "--since", "yesterday"), "such as 7d"),
        (("run",), "Missing argument"),
        (("fly",), "No such command"),
    ],
)
def test_mistakes_end_with_3_and_say_what_to_do(env: dict[str, str], words: tuple[str, ...], says: str) -> None:
    done = lrm(env, *words)
    assert done.returncode == 3
    assert says in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["LRM_PRIORITY", "LRM_METRICS_PORT", "LRM_LOG_LEVEL", "LRM_JOBS"])
def test_settings_that_are_wrong_are_one_line(env: dict[str, str], name: str) -> None:
    done = lrm({**env, name: "x"}, "runs", "list")
    assert done.returncode == 3
    assert done.stderr.startswith(f"error: {name} is 'x'; expected ") and done.stderr.count("\n") == 1


def test_errors_are_json_for_machines(env: dict[str, str], tmp_path: Path) -> None:
    recipe = tmp_path / "bad.yaml"
    recipe.write_text("modell: x")
    done = lrm(env, "run", str(recipe), "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout) == {"error": "InvalidInput", "message": json.loads(done.stdout)["message"]}
    assert "did you mean 'model'" in json.loads(done.stdout)["message"]


def test_a_port_in_use_is_said_when_services_start(env: dict[str, str]) -> None:
    address = env["LRM_DATA_ADDR"]
    with socket.create_server(("127.0.0.1", int(address.rsplit(":", 1)[1]))):
        done = lrm(env, "runs", "list")
    assert done.returncode == 3
    assert "the port is taken" in done.stderr and address in done.stderr


def test_doctor_speaks_for_machines(env: dict[str, str]) -> None:
    done = lrm(env, "doctor", "--json")
    findings = {finding["what"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert findings["store"]["state"] == "ok"
    assert findings["training"]["state"] == "ok"


def test_up_runs_down(env: dict[str, str], tmp_path: Path) -> None:
    ports = free_ports(5)
    names = ("DATA", "TRAINER", "INFERENCE", "JUDGE", "BENCH")
    env |= {f"LRM_{name}_ADDR": f"127.0.0.1:{port}" for name, port in zip(names, ports, strict=True)}
    try:
        up = lrm(env, "up", "--json")
        assert up.returncode == 0, up.stderr
        assert json.loads(up.stdout)["started"] is True
        assert json.loads(lrm(env, "up", "--json").stdout)["started"] is False
        assert json.loads(lrm(env, "runs", "list", "--json").stdout) == []
        assert json.loads(lrm(env, "models", "list", "--json").stdout) == []
        store = open_store(Settings.from_env(env))
        spent = Cost(id="bench-1", kind="bench", tenant=Tenant(team="red"), tokens=1200, ended_at=time.time())
        costs.record(store, spent)
        assert json.loads(lrm(env, "cost", "--json").stdout) == [jsonl.to_dict(spent)]
        assert "1,200" in lrm(env, "cost", "--team", "red").stdout
        assert "nothing was spent in the last 1h" in lrm(env, "cost", "--team", "blue", "--since", "1h").stderr
        store_measured(store, "bench-1", refusals=2)
        logs = str(tmp_path / "logs")
        exported = json.loads(lrm(env, "export", "bench-1", "--to", "inspect", "--out", logs, "--json").stdout)
        assert len(exported["files"]) == 3 and not exported["with_text"]
        came_in = json.loads(lrm(env, "import-log", logs, "--json").stdout)["id"]
        tax = lrm(env, "tax", "bench-1", f"back={came_in}", "--json", "--out", str(tmp_path / "tax"))
        assert [run["name"] for run in json.loads(tax.stdout)["runs"]] == ["tuned@abc", "back"], tax.stderr
        assert (tmp_path / "tax" / "tax.svg").exists()
        missing = lrm(env, "report", "bench-0")
        assert missing.returncode == 3 and "bench-0" in missing.stderr
    finally:
        down = lrm(env, "down", "--json")
    assert json.loads(down.stdout) == {"stopped": True}
    assert json.loads(lrm(env, "down", "--json").stdout) == {"stopped": False}


def store_measured(store: ObjectStore, run: str, refusals: int) -> None:
    """A bench run as the service leaves it."""
    made = measured_run(refusals, run)
    done = Run(id=run, kind="bench", spec=RunSpec(bench=made.scorecard.spec), state=RunState.RUN_STATE_DONE, result=run)
    store.write(f"runs/{run}/parts/000001-000000.jsonl.zst", jsonl.pack(made.records()))
    store.write(f"runs/{run}/scorecard.json", jsonl.dumps(made.scorecard).encode())
    for name in ("spec", "result"):
        store.write(f"runs/{run}/{name}.json", jsonl.dumps(done).encode())
