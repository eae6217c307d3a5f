"""Policies are read strictly, and say what they take for granted."""

from pathlib import Path

import pytest

from lrm_safety import policy
from lrm_safety.errors import InvalidInput, NotFound
from lrm_safety.nouns import GateSpec

GOOD = """
checkpoints: ["smollm2-*"]
evaluation: {benchmarks: [demo_harm, {benchmark: demo_math, limit: 20}]}
gate: {margins: {harm: 0.02, reasoning: 0.1}}
callbacks:
  - {github: acme/models}
  - {url: "https://hooks.example/lrm"}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "nightly.yaml"
    path.write_text(text)
    return path


def test_defaults_are_written_down(tmp_path: Path) -> None:
    made = policy.load(write(tmp_path, GOOD))
    assert (made.name, made.priority, made.settle_s) == ("nightly", "filler", policy.SETTLE_S)
    assert (made.gate.alpha, made.gate.max_invalid) == (0.05, 0.05)
    assert [list(each.attacks) for each in made.evaluation.benchmarks] == [["none"], ["none"]]
    assert policy.resolve(made) == made
    assert policy.concerns(made, "smollm2-135m")
    assert not policy.concerns(made, "qwen")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("checkpoints", "checkpoint"), "did you mean 'checkpoints'"),
        (("{harm: 0.02, reasoning: 0.1}", "{}"), "`gate.margins` is empty"),
        (("harm: 0.02", "harm: 2"), "expected a share"),
        (("harm: 0.02", "safety: 0.02"), "is no role"),
        (("evaluation: {", "evaluation: {endpoint: x, "), "`evaluation.endpoint` is set"),
        (("github: acme/models", "github: models"), "owner/repository"),
        (("github: acme/models", "github: acme/models, url: 'http://x'"), "either `url` or `github`"),
        (("https://hooks", "ftp://hooks"), "no http"),
        (("github: acme/models", "github: acme/models, commit: main"), "40 hex digits"),
        (("gate:", "priority: soon\ngate:"), "expected one of urgent, normal, filler"),
        (("gate:", "settle_s: -1\ngate:"), "0 to 86400"),
        (("gate:", "name: a/b\ngate:"), "policy name"),
        (("gate:", "gate: ["), "not YAML"),
    ],
)
def test_mistakes_name_the_place(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        policy.load(write(tmp_path, GOOD.replace(*change, 1)))


def test_a_policy_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no policy"):
        policy.load(tmp_path / "nothing.yaml")


def test_the_suite_is_what_is_measured_and_how_it_is_decided(tmp_path: Path) -> None:
    made = policy.load(write(tmp_path, GOOD))
    first = GateSpec(checkpoint="a@1", baseline="b@2", evaluation=made.evaluation, gate=made.gate)
    second = GateSpec(checkpoint="c@1", baseline="d@2", evaluation=made.evaluation, gate=made.gate)
    assert policy.suite_digest(first) == policy.suite_digest(second)
    second.gate.margins["harm"] = 0.03
    assert policy.suite_digest(first) != policy.suite_digest(second)
