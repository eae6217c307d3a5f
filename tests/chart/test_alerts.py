"""Alerts and dashboard: real promtool over the rendered rules, and no metric in them that the code does not count."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.chart.rendering import ROOT, named, objects

CASES = Path(__file__).parent / "alerts_test.yaml"
METRIC = re.compile(r"\blrm_[a-z0-9_]+")
SUFFIXES = re.compile(r"_(bucket|count|sum)$")


@pytest.fixture(scope="module")
def groups() -> list[dict]:
    return named(objects("monitoring"), "PrometheusRule", "lrm-safety")["spec"]["groups"]


def test_rules_hold_what_they_promise(groups: list[dict], tmp_path: Path) -> None:
    rules = tmp_path / "alerts.yaml"
    rules.write_text(yaml.safe_dump({"groups": [_without_annotations(group) for group in groups]}))
    cases = shutil.copy(CASES, tmp_path)
    assert "SUCCESS" in _promtool("check", "rules", str(rules))
    assert "SUCCESS" in _promtool("test", "rules", cases)


def test_rules_with_their_words_are_valid(groups: list[dict], tmp_path: Path) -> None:
    rules = tmp_path / "alerts.yaml"
    rules.write_text(yaml.safe_dump({"groups": groups}))
    assert f"{len(groups[0]['rules'])} rules found" in _promtool("check", "rules", str(rules))


def test_every_alert_is_tested_both_ways_and_says_what_to_do(groups: list[dict]) -> None:
    cases = [case for test in yaml.safe_load(CASES.read_text())["tests"] for case in test["alert_rule_test"]]
    for rule in groups[0]["rules"]:
        outcomes = {bool(case["exp_alerts"]) for case in cases if case["alertname"] == rule["alert"]}
        assert outcomes == {True, False}, rule["alert"]
        assert len(rule["annotations"]["runbook"]) > 100
    assert {rule["alert"] for rule in groups[0]["rules"]} == {case["alertname"] for case in cases}


def test_every_metric_is_counted_somewhere(groups: list[dict]) -> None:
    board = json.loads(named(objects("monitoring"), "ConfigMap", "lrm-safety-dashboard")["data"]["lrm-safety.json"])
    expressions = [rule["expr"] for rule in groups[0]["rules"]]
    expressions += [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    used = {SUFFIXES.sub("", name) for text in expressions for name in METRIC.findall(text)}
    sources = [path for folder in ("lrm_safety", "services") for path in (ROOT / folder).rglob("*.py")]
    counted = {name for path in sources for name in METRIC.findall(path.read_text(encoding="utf-8"))}
    assert len(used) >= 12
    assert not used - counted


def test_the_operators_kinds_are_made_only_where_they_exist() -> None:
    kinds = {each["kind"] for each in objects("default")}
    assert not kinds & {"ServiceMonitor", "PrometheusRule"}
    monitor = named(objects("monitoring"), "ServiceMonitor", "lrm-safety")
    assert monitor["metadata"]["labels"]["release"] == "kube-prometheus-stack"


def _without_annotations(group: dict) -> dict:
    """promtool compares annotations word for word; what they say is for people."""
    return {**group, "rules": [{k: v for k, v in rule.items() if k != "annotations"} for rule in group["rules"]]}


def _promtool(*arguments: str) -> str:
    ours = Path(sys.executable).parent / "promtool"
    program = str(ours) if ours.exists() else shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is missing: `make .venv/bin/promtool` takes it from Debian's package prometheus")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
