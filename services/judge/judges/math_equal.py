"""Equal to the gold answer or different, by algebra: math-verify in bounded worker processes.

Library: math-verify (Kydlíček 2025) on sympy. Data: MATH-500, GSM8K, AIME, any task with a short gold answer.
Metric: accuracy (pass@1). The thinking is not read; of the answer counts the last \\boxed{}, else what follows
"answer is", "Answer:" or "####", else the last number. "073" equals 73, "1,234" equals 1234, 50% equals 50 and 0.5,
units after a number are dropped, decimals are compared to six digits, lists as sets. No answer is "different"; a gold
that cannot be parsed, and a comparison that takes too long or too much memory, are invalid.
"""

from functools import cache

from lrm_safety.nouns import ScoreItem, Verdict
from services.judge import math_pool
from services.judge.judge import rules
from services.judge.math_answer import base_of, extract, normal, right_side, same_number, without_name, words_of

_LONGEST = 2_000  # characters; no final answer is longer

_EQUAL = Verdict(label="equal", score=1, value=1)


@rules(
    reads=("answer", "target"),
    measure="correct",
    labels=("equal", "different"),
    parts=("math_answer.py", "math_pool.py", "math_worker.py"),
    packages=("math-verify", "latex2sympy2-extended", "sympy"),
    parallel=math_pool.WORKERS,
)
def judge(item: ScoreItem) -> Verdict:
    gold, answer = normal(_gold(item.target)), normal(extract(item.answer))
    if not gold:
        return Verdict(invalid="no gold answer")
    if not answer:
        return _different("no answer found")
    if gold == answer:
        return _EQUAL
    if "=" in gold and "=" not in answer:
        gold = without_name(gold)
    elif "=" in answer and "=" not in gold:
        answer = right_side(answer)
    return _compared(gold, answer)


def pool() -> math_pool.MathPool:
    """The processes all comparisons of this process share."""
    return _pool()


@cache
def _pool() -> math_pool.MathPool:
    return math_pool.MathPool()


def _gold(target: str) -> str:
    """A gold answer may come with its worked solution, as in GSM8K (####) and MATH (a box)."""
    return extract(target) if "####" in target or "\\boxed" in target else target


def _compared(gold: str, answer: str) -> Verdict:
    same = same_number(gold, answer)
    if same is None and words_of(gold):
        same = words_of(gold) == words_of(answer)
    if same is None and base_of(gold) and base_of(answer) and base_of(gold) != base_of(answer):
        same = False
    if same is not None:
        return _EQUAL if same else _different("")
    return _by_algebra(gold, answer)


def _by_algebra(gold: str, answer: str) -> Verdict:
    if len(gold) > _LONGEST:
        return Verdict(invalid="gold answer too long")
    if len(answer) > _LONGEST:
        return _different("answer too long")
    outcome = pool().compare(gold, answer)
    if outcome == "equal":
        return _EQUAL
    if outcome == "different":
        return _different("")
    return Verdict(invalid="gold answer cannot be parsed" if outcome == "gold" else outcome)


def _different(why: str) -> Verdict:
    return Verdict(label="different", rationale=why)
