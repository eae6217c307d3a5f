"""A verdict in the forms that CI systems show: JUnit XML, a Markdown summary, JSON; and the signed statement."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

from lrm_safety import statement
from lrm_safety.errors import LrmError
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


@contextmanager
def errors_into(folder: Path | None, checkpoint: str) -> Iterator[None]:
    """Without a verdict the same files say why there is none; nothing of an earlier verdict stays."""
    try:
        yield
    except LrmError as error:
        if folder:
            _write_error(folder, checkpoint, error)
        raise


def junit(outcome: RecipeOutcome) -> bytes:
    """One test for the verdict, one for each role. A role that does not decide is shown, and fails nothing."""
    decision = outcome.decision
    tests = [_test("verdict", decision.outcome, "; ".join(decision.reasons), is_deciding=True)]
    tests += [
        _test(role.role, role.outcome, role.reason, is_deciding=role.tier in _DECIDING) for role in decision.roles
    ]
    return _suite(outcome.checkpoint or outcome.run, tests, _seconds(outcome))


def _write_error(folder: Path, checkpoint: str, error: LrmError) -> None:
    said = {"verdict": "ERROR", "error": type(error).__name__, "message": str(error)}
    test = _case("verdict")
    ElementTree.SubElement(test, "error", type=said["error"], message=said["message"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / statement.FILE).unlink(missing_ok=True)
    (folder / "junit.xml").write_bytes(_suite(checkpoint, [test], 0.0))
    (folder / "summary.md").write_text(f"**ERROR** no verdict for `{checkpoint}`\n\n    {error}\n", encoding="utf-8")
    (folder / "verdict.json").write_text(json.dumps(said, ensure_ascii=False, indent=2), encoding="utf-8")


def _suite(what: str, tests: list[ElementTree.Element], seconds: float) -> bytes:
    suite = ElementTree.Element("testsuite", name=f"lrm-safety {what}")
    suite.extend(tests)
    suite.set("tests", str(len(tests)))
    for kind, name in (("failure", "failures"), ("skipped", "skipped"), ("error", "errors")):
        suite.set(name, str(sum(test.find(kind) is not None for test in tests)))
    suite.set("time", f"{seconds:.3f}")
    whole = ElementTree.Element("testsuites")
    whole.append(suite)
    text: bytes = ElementTree.tostring(whole, encoding="utf-8", xml_declaration=True)
    return text


def _case(name: str) -> ElementTree.Element:
    return ElementTree.Element("testcase", classname="lrm-safety.gate", name=name)


def _test(name: str, verdict: "Outcome.ValueType", reason: str, is_deciding: bool) -> ElementTree.Element:
    test = _case(name)
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
