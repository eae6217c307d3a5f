"""Alerts and dashboard: real promtool over the rendered rules, and no metric in them that the code does not count."""

import ast
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml

from tests.chart.rendering import ROOT, named, objects

CASES = Path(__file__).parent / "alerts_test.yaml"
METRIC = re.compile(r"\blrm_[a-z0-9_]+")
SUFFIXES = re.compile(r"_(bucket|count|sum)$")
COUNTERS = ("observe.count", "observe.add", "observe.timing", "observe.gauge")


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
    used = _metrics(_expressions(groups))
    assert len(used) >= 12
    assert not used - set(_counted())


def test_every_label_is_one_that_the_metric_has(groups: list[dict]) -> None:
    """By the calls that count it; `namespace` and, where a metric has none of its own, `service` are the scrape's."""
    wrong = [
        f"{label} of {name} in {expression}"
        for expression in _expressions(groups)
        for name, label in _labels(expression)
        if label not in _counted()[SUFFIXES.sub("", name)] | {"namespace", "service", "le"}
    ]
    assert not wrong
    assert ("lrm_x_total", "team") in set(_labels('sum by (kind) (rate(lrm_x_total{team="a"}[5m]))'))
    assert ("lrm_x_total", "kind") in set(_labels('sum by (kind) (rate(lrm_x_total{team="a"}[5m]))'))


def test_what_an_alert_is_about_is_on_the_dashboard(groups: list[dict]) -> None:
    """And what its runbook says to look at, by name or in words (answers that fail, the cache); tokens by team."""
    rules = [text for rule in groups[0]["rules"] for text in (rule["expr"], rule["annotations"]["runbook"])]
    shown = _metrics(_panels())
    assert not _metrics(rules) - shown
    assert {"lrm_completion_failed_total", "lrm_completion_cached_total", "lrm_cost_token_total"} <= shown


def test_panels_have_places_of_their_own() -> None:
    board = _board()
    places = [tuple(panel["gridPos"][key] for key in "xy") for panel in board["panels"]]
    assert len(set(places)) == len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_the_operators_kinds_are_made_only_where_they_exist() -> None:
    kinds = {each["kind"] for each in objects("default")}
    assert not kinds & {"ServiceMonitor", "PrometheusRule"}
    monitor = named(objects("monitoring"), "ServiceMonitor", "lrm-safety")
    assert monitor["metadata"]["labels"]["release"] == "kube-prometheus-stack"


def _expressions(groups: list[dict]) -> list[str]:
    """Of the alerts, and of the dashboard's panels."""
    return [rule["expr"] for rule in groups[0]["rules"]] + _panels()


def _panels() -> list[str]:
    return [target["expr"] for panel in _board()["panels"] for target in panel["targets"]]


def _board() -> dict:
    found = named(objects("monitoring"), "ConfigMap", "lrm-safety-dashboard")["data"]["lrm-safety.json"]
    return dict(json.loads(found))


def _metrics(texts: list[str]) -> set[str]:
    return {SUFFIXES.sub("", name) for text in texts for name in METRIC.findall(text)}


def _labels(expression: str) -> Iterator[tuple[str, str]]:
    """(metric, label) of every `by (…)`, for each metric in the brackets after it, and of every selector."""
    for found in re.finditer(r"by \(([^)]*)\) \(", expression):
        end, depth = found.end(), 1
        while depth:
            depth += {"(": 1, ")": -1}.get(expression[end], 0)
            end += 1
        for name in METRIC.findall(expression[found.end() : end]):
            yield from ((name, label.strip()) for label in found[1].split(","))
    for name, selector in re.findall(r"\b(lrm_[a-z0-9_]+)\{([^}]*)\}", expression):
        yield from ((name, label) for label in re.findall(r"(\w+)=", selector))


@cache
def _counted() -> dict[str, set[str]]:
    """Metric -> its labels, as the calls of `observe` in the code have them."""
    sources = [path for folder in ("lrm_safety", "services") for path in (ROOT / folder).rglob("*.py")]
    calls = [each for path in sources for each in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    return {
        call.args[0].value: {str(each.arg) for each in call.keywords}
        for call in calls
        if isinstance(call, ast.Call) and ast.unparse(call.func) in COUNTERS and isinstance(call.args[0], ast.Constant)
    }


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
