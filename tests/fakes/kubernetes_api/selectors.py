"""labelSelector and fieldSelector of a list or watch."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from tests.fakes.kubernetes_api.refusals import Json, bad_request

SET = re.compile(r"\s*(\S+)\s+(in|notin)\s*\(([^)]*)\)\s*")
EQUALITY = re.compile(r"\s*([^\s!=]+)\s*(=|==|!=)\s*(\S*)\s*")
EXISTS = re.compile(r"\s*(!?)\s*([^\s!=(),]+)\s*")
Test = Callable[[Json], bool]


@dataclass(frozen=True)
class Selection:
    tests: tuple[Test, ...]

    @classmethod
    def of(cls, query: dict[str, str]) -> "Selection":
        labels = [_label_test(part) for part in _parts(query.get("labelSelector", ""))]
        fields = [_field_test(part) for part in _parts(query.get("fieldSelector", ""))]
        return cls((*labels, *fields))

    def takes(self, each: Json) -> bool:
        return all(test(each) for test in self.tests)


def _parts(selector: str) -> list[str]:
    """Split at the commas outside of parentheses."""
    return [part for part in re.split(r",(?![^(]*\))", selector) if part.strip()]


def _label_test(part: str) -> Test:
    def labels(each: Json) -> Json:
        return each["metadata"].get("labels") or {}

    if match := SET.fullmatch(part):
        key, verb, values = match[1], match[2], {value.strip() for value in match[3].split(",")}
        return lambda each: (labels(each).get(key) in values) == (verb == "in")
    if match := EQUALITY.fullmatch(part):
        key, sign, value = match.groups()
        return lambda each: (labels(each).get(key) == value) == (sign != "!=")
    if match := EXISTS.fullmatch(part):
        key, is_absent = match[2], bool(match[1])
        return lambda each: (key in labels(each)) != is_absent
    raise bad_request(f"unable to parse requirement: {part!r}")


def _field_test(part: str) -> Test:
    match = EQUALITY.fullmatch(part)
    if not match:
        raise bad_request(f"invalid selector: {part!r}")
    path, sign, value = match.groups()

    def test(each: Json) -> bool:
        found = each
        for step in path.split("."):
            found = (found or {}).get(step, "")
        return (str(found) == value) == (sign != "!=")

    return test
