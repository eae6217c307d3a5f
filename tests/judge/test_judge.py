"""The contract: how judges are found, what they declare, what their digests cover."""

from pathlib import Path

import pytest

from lrm_safety import registry
from lrm_safety.errors import InvalidInput, NotFound
from lrm_safety.nouns import ScoreItem, Verdict
from services.judge import judge as contract
from services.judge.judge import FOLDER, MEASURES, ModelJudge, asks, find, rules

NAMES = ("math_equal", "policy15", "reasoning_shield", "refusal", "xstest3")


def test_all_judges_are_listed_with_a_summary() -> None:
    listed = {plugin.name: plugin.summary for plugin in registry.describe(FOLDER)}
    assert set(NAMES) <= listed.keys()
    assert all(20 < len(listed[name]) <= 120 for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_judge_declares_itself(name: str) -> None:
    judge = find(name)
    assert judge.name == name and judge.measure in MEASURES and len(judge.labels) >= 2
    assert isinstance(judge, ModelJudge) == (name in ("xstest3", "policy15", "reasoning_shield"))


def test_an_unknown_judge_is_named_with_those_there_are() -> None:
    with pytest.raises(NotFound, match="refusal"):
        find("no_such_judge")


def test_digests_differ_between_judges_and_between_weights() -> None:
    digests = {find(name).digest(weights) for name in NAMES for weights in ("", "a", "b")}
    assert len(digests) == 3 * len(NAMES)
    assert find("xstest3").digest("a") == find("xstest3").digest("a")


def written_judge(folder: Path, rule: str, prompt: str) -> contract.Judge:
    """A judge that asks a model, made from files in `folder`."""
    (folder / "own.txt").write_text(prompt)
    source = folder / "own.py"
    source.write_text(f"def judge(reply):\n    return {rule}\n")
    contract._code_digest.cache_clear()
    scope: dict[str, object] = {}
    exec(compile(source.read_text(), str(source), "exec"), scope)  # noqa: S102
    return asks(reads=("answer",), measure="refusal", labels=("yes", "no"), max_tokens=8)(scope["judge"])


def test_the_digest_covers_code_and_prompt(tmp_path: Path) -> None:
    first = written_judge(tmp_path, "1", "Say $answer").digest()
    assert written_judge(tmp_path, "1", "Say $answer").digest() == first
    assert written_judge(tmp_path, "2", "Say $answer").digest() != first
    assert written_judge(tmp_path, "1", "Tell $answer").digest() != first


def test_a_missing_prompt_is_named(tmp_path: Path) -> None:
    judge = written_judge(tmp_path, "1", "Say $answer")
    (tmp_path / "own.txt").unlink()
    contract._code_digest.cache_clear()
    with pytest.raises(NotFound, match=r"own\.txt"):
        judge.digest()


@pytest.mark.parametrize("wrong", [{"reads": ("mind",)}, {"measure": "mood"}])
def test_a_wrong_declaration_is_refused(wrong: dict[str, object]) -> None:
    declared = {"reads": ("answer",), "measure": "refusal", "labels": ("a", "b")} | wrong
    with pytest.raises(InvalidInput, match="expected"):
        rules(**declared)(lambda item: Verdict())


def test_empty_answers_are_unfit_for_refusal_and_harm_only() -> None:
    blank = ScoreItem(answer=" \n")
    assert find("refusal").unfit(blank) == find("policy15").unfit(blank) == "empty answer"
    assert find("math_equal").unfit(blank) == ""
