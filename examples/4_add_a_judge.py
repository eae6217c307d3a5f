"""Brevity: whether an answer stays within fifty words. In services/judge/judges/, such a file is a judge."""

from lrm_safety.nouns import ScoreItem, Verdict
from services.judge.judge import rules

WORDS = 50


@rules(reads=("answer",), measure="correct", labels=("brief", "long"))
def judge(item: ScoreItem) -> Verdict:
    is_brief = len(item.answer.split()) <= WORDS
    return Verdict(label="brief" if is_brief else "long", score=float(is_brief), value=float(is_brief))
