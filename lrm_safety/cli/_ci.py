"""A verdict in the forms that CI systems show: JUnit XML, a Markdown summary, JSON; and the signed statement."""

import json
from pathlib import Path
from xml.etree import ElementTree

from lrm_safety import statement
from lrm_safety.nouns import Outcome, RecipeOutcome
from lrm_safety.report import ReportData, as_json, markdown

PASS = Outcome.OUTCOME_PASS
_DECIDING = ("", "required")


def write(data: ReportData, folder: Path) -> None:
    """junit.xml, summary.md, verdict.json and, of a signed decision, decision.dsse.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "junit.xml").write_bytes(junit(data.outcome))
    (folder / "summary.md").write_text(markdown(data), encoding="utf-8")
    (folder / "verdict.json").write_text(json.dumps(as_json(data), ensure_ascii=False, indent=2), encoding="utf-8")
    if data.outcome.statement:
        (folder / statement.FILE).write_text(data.outcome.statement, encoding="utf-8")


def junit(outcome: RecipeOutcome) -> bytes:
    """One test for the verdict, one for each role. A role that does not decide is shown, and fails nothing."""
    decision = outcome.decision
    tests = [_test("verdict", decision.outcome, "; ".join(decision.reasons), is_deciding=True)]
    tests += [
        _test(role.role, role.outcome, role.reason, is_deciding=role.tier in _DECIDING) for role in decision.roles
    ]
    suite = ElementTree.Element("testsuite", name=f"lrm-safety {outcome.checkpoint or outcome.run}")
    suite.extend(tests)
    suite.set("tests", str(len(tests)))
    for kind, name in (("failure", "failures"), ("skipped", "skipped")):
        suite.set(name, str(sum(test.find(kind) is not None for test in tests)))
    suite.set("time", f"{_seconds(outcome):.3f}")
    whole = ElementTree.Element("testsuites")
    whole.append(suite)
    text: bytes = ElementTree.tostring(whole, encoding="utf-8", xml_declaration=True)
    return text


def _test(name: str, verdict: "Outcome.ValueType", reason: str, is_deciding: bool) -> ElementTree.Element:
    test = ElementTree.Element("testcase", classname="lrm-safety.gate", name=name)
    word = Outcome.Name(verdict).removeprefix("OUTCOME_")
    if not is_deciding:
        ElementTree.SubElement(test, "skipped", message=f"{word}, decides nothing: {reason}")
    elif verdict != PASS:
        ElementTree.SubElement(test, "failure", type=word, message=reason or word)
    else:
        ElementTree.SubElement(test, "system-out").text = reason
    return test


def _seconds(outcome: RecipeOutcome) -> float:
    return outcome.baseline.seconds + outcome.candidate.seconds
