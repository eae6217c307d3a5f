"""Equality of answers: a table of pairs both ways, hostile expressions, and published gold answers."""

import gzip
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrm_safety.nouns import ScoreItem, Verdict
from services.judge import math_pool
from services.judge.judges import math_equal
from services.judge.math_answer import extract, normal
from services.judge.math_pool import MathPool
from services.judge.scoring import score

EQUAL = [  # gold, answer
    ("73", "073"),
    ("1234", "1,234"),
    ("1,234,567", "1234567"),
    (r"1{,}234", "1234"),
    ("0.5", "1/2"),
    (r"\frac{1}{2}", "0.5"),
    (r"\frac12", "1/2"),
    (r"\dfrac{3}{4}", r"\tfrac{6}{8}"),
    (r"\frac{3}{4}", "0.75"),
    ("-2", "−2"),
    (r"-\frac{1}{3}", "-1/3"),
    (r"\frac{1}{3}", "0.333333"),
    (r"1\frac{1}{2}", "3/2"),
    ("1.5", "1 1/2"),
    ("5", "5.0"),
    (".5", "0.50"),
    ("50", r"50\%"),
    (r"50\%", "0.5"),
    ("12.5%", "12.5 percent"),
    ("18", r"\$18"),
    ("18", "$18.00"),
    ("5", r"5 \text{ cm}"),
    ("5", "5 apples"),
    ("12", r"12 \text{ cm}^2"),
    (r"90^\circ", "90"),
    ("90", "90°"),
    ("3", "x = 3"),
    ("x=3", "3"),
    ("y = 2x + 1", "2x+1"),
    ("7", "3 + 4 = 7"),
    (r"\{1, 2\}", r"\{2, 1\}"),
    ("1, 2", "2,1"),
    (r"\{-1, 0, 1\}", r"\left\{ 1, -1, 0 \right\}"),
    ("(1, 2)", r"\left( 1,2 \right)"),
    ("[0, 1)", "[0,1)"),
    ("[0, 1)", r"0 \le x < 1"),
    (r"(-\infty, 3]", r"x \le 3"),
    (r"(-\infty, 2) \cup (3, \infty)", r"(-\infty,2)\cup(3,\infty)"),
    (r"\sqrt{8}", r"2\sqrt{2}"),
    (r"\sqrt2", r"\sqrt{2}"),
    (r"\frac{1}{\sqrt{2}}", r"\frac{\sqrt{2}}{2}"),
    (r"11\sqrt2", r"11\sqrt{2}"),
    (r"\pi", "π"),
    (r"\frac{\pi}{4}", r"\pi/4"),
    ("x^2 + 1", "1 + x^2"),
    ("(x+1)^2", "x^2 + 2x + 1"),
    ("x^2 - 1", "(x-1)(x+1)"),
    ("2x", "x+x"),
    ("1000", "10^3"),
    ("1000", "1e3"),
    (r"3 \times 10^4", "30000"),
    ("8", "2^3"),
    ("6 - 5i", "-5i + 6"),
    (r"\text{Evelyn}", "Evelyn"),
    (r"\text{(C)}", "C"),
    ("east", r"\text{East}"),
    (r"\text{even}", "even."),
    ("2516_8", "2516_{8}"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
    (r"\begin{pmatrix} 1/2 & 0 \\ 0 & 1 \end{pmatrix}", r"\begin{pmatrix} 0.5 & 0 \\ 0 & 1 \end{pmatrix}"),
    (r"\log 2", r"\log(2)"),
    (r"\binom{5}{2}", "10"),
    ("5!", "120"),
    ("p - q", "-q + p"),
    ("0", "-0"),
    (r"\frac{270}{7}\text{ degrees}", r"\frac{270}{7}"),
]

DIFFERENT = [
    ("2", "3"),
    ("73", "730"),
    ("1234", "1,235"),
    (r"\frac{1}{2}", "0.6"),
    (r"\frac{1}{3}", "0.33"),
    ("-2", "2"),
    ("0.00000001", "0.00000002"),
    ("50", r"5\%"),
    (r"50\%", r"0.5\%"),
    ("12", "12.5"),
    ("3", "x = 4"),
    (r"\{1, 2\}", r"\{1, 3\}"),
    ("1, 2", "1, 2, 3"),
    ("(1, 2)", "(2, 1)"),
    ("[0, 1)", "(0, 1)"),
    ("[0, 1]", "[0, 1)"),
    (r"(-\infty, 3]", r"(-\infty, 3)"),
    (r"\sqrt{8}", r"\sqrt{2}"),
    (r"\frac{\pi}{4}", r"\frac{\pi}{3}"),
    ("x^2 + 1", "x^2 - 1"),
    ("(x+1)^2", "x^2 + 1"),
    ("x", "y"),
    (r"\text{Evelyn}", "Briar"),
    (r"\text{(C)}", "B"),
    ("east", "north"),
    ("2516_8", "2516_7"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 2 \\ 1 \end{pmatrix}"),
    ("6 - 5i", "6 + 5i"),
    ("8", "2^4"),
    ("1000000000000000000001", "1000000000000000000000"),
    ("5", r"\text{five or so}"),
    ("7", ""),
    ("7", "I do not know."),
    ("7", r"\frac{\frac{"),
    ("3x", "3"),
    (r"\pi", "3.14"),
]

EXTRACTED = [  # what a model said, the answer in it
    (r"First \boxed{4}, no: \boxed{5}.", "5"),
    (r"\boxed{\frac{1}{\sqrt{2}}}", r"\frac{1}{\sqrt{2}}"),
    (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
    (r"Cut off: \boxed{12} and then \boxed{13", "12"),
    (r"\boxed{} but \boxed{3}, and \boxed{}", "3"),
    (r"so \boxed 5 it is", "5"),
    (r"\fbox{9}", "9"),
    ("The answer is 12.", "12"),
    ("The answer is 12 because 3 times 4 is 12 and 5 is 5", "12"),
    ("**Answer:** 1,234 dollars", "1,234"),
    (r"The final answer is $\frac{3}{4}$ of the cake.", r"$\frac{3}{4}$"),
    ("She has 3 + 4 = 7 apples.\n#### 7", "7"),
    ("Answer: x^2 + 1", "x^2 + 1"),
    ("Answer:\n42", "42"),
    ("The answer is 3. Checking again, the answer is 4.", "4"),
    ("Tom had 10 and gave away 4, so he has 6 left.", "6"),
    (r"Therefore $x = \frac{3}{4}$.", r"$x = \frac{3}{4}$"),
    ("It costs $1,250.50 in all.", "$1,250.50"),
    ("He walks 10-5 km", "5"),
    ("-7", "-7"),
    (r"\frac{2}{3}", r"\frac{2}{3}"),
    ("x^2+1", "x^2+1"),
    ("east", "east"),
    ("3/4 of them are red.", "3/4"),
    ("That is 45% of them, I think", "45%"),
    ("", ""),
    ("There is no way to know that from what is said in the question.", ""),
    ("3 times 6 equals 18.", "18"),
    ("12 / 4 equals 3", "3"),
    ("She has 5 apples and 3 pears, so 8 in total.", "8"),
    (r"2 * 2 = 4. The answer is \boxed{}.", "4"),
    ("The answer is 5, because 3 + 2 is that.", "5"),
]

HOSTILE = [
    "9**9**9**9",
    "9^{9^{9^{9}}}",
    r"2^{2^{2^{2^{2^{2}}}}}",
    "(" * 900 + "1" + ")" * 900,
    r"\sqrt{" * 200 + "2" + "}" * 200,
    "((((x+1)^{99}+1)^{99}+1)^{99}+1)^{99}",
    "(a+b+c+d+e+f+g+h)^{60}",
    r"\sum_{n=1}^{10^{9}} \frac{1}{n^{3}}",
    r"\int_0^{100} e^{e^{e^{x}}} dx",
    "99999999!",
    "9" * 1900,
    "9" * 5000,
    "__import__('os').system('true')",
    "\\" * 999,
    "$" * 999,
    r"\boxed{" * 400,
]


@pytest.fixture(scope="module", autouse=True)
def workers() -> Iterator[None]:
    yield
    math_equal.pool().close()


@pytest.fixture(scope="module")
def hasty() -> Iterator[MathPool]:
    """One worker that gives up after a second."""
    pool = MathPool(workers=1, cpu_s=1.0)
    yield pool
    pool.close()


def verdict(gold: str, answer: str) -> Verdict:
    return math_equal.judge.decide(ScoreItem(target=gold, answer=answer))


@pytest.mark.parametrize(("gold", "answer"), EQUAL)
def test_equal_pairs(gold: str, answer: str) -> None:
    assert (verdict(gold, f"\\boxed{{{answer}}}").label, verdict(gold, answer).label) == ("equal", "equal")


@pytest.mark.parametrize(("gold", "answer"), DIFFERENT)
def test_different_pairs(gold: str, answer: str) -> None:
    assert verdict(gold, f"\\boxed{{{answer}}}") == verdict(gold, answer) or answer == ""
    assert verdict(gold, answer).label == "different"


@pytest.mark.parametrize(("said", "answer"), EXTRACTED)
def test_extraction(said: str, answer: str) -> None:
    assert extract(said) == answer


def test_the_tables_are_large_enough() -> None:
    assert len(EQUAL) >= 60 and len(DIFFERENT) >= 30


@pytest.mark.parametrize("gold", ["", "  ", r"\frac{", r"\left(", "$$"])
def test_an_unreadable_gold_is_invalid(gold: str) -> None:
    found = verdict(gold, r"\boxed{x+7}")
    assert found.invalid and not found.label


def test_thinking_is_not_read() -> None:
    item = ScoreItem(target="5", thinking=r"\boxed{5}", answer="I could not finish.")
    assert math_equal.judge.decide(item).label == "different"


def test_gold_with_its_solution() -> None:
    assert verdict("3 + 4 = 7\n#### 7", "seven, that is 7").label == "equal"


@pytest.mark.parametrize("answer", HOSTILE)
def test_hostile_answers_end_in_bounded_time_and_leave_the_next_alone(
    answer: str, hasty: MathPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(math_equal, "pool", lambda: hasty)
    started = time.monotonic()
    found = verdict("x^2 + 2x + 1", f"\\boxed{{{answer}}}")
    assert found.label == "different" or found.invalid == "timeout"
    assert time.monotonic() - started < 60
    assert verdict("(x+1)^2", r"\boxed{x^2 + 2x + 1}").label == "equal"


def test_a_worker_that_dies_spoils_one_verdict_at_most(hasty: MathPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(math_equal, "pool", lambda: hasty)
    monkeypatch.setattr(math_pool, "_ANSWER_S", 0.0)  # no worker is this fast: each is killed while it computes
    assert verdict("x + 1", "1 + x").invalid == "timeout"
    monkeypatch.undo()
    monkeypatch.setattr(math_equal, "pool", lambda: hasty)
    assert verdict("x + 1", "1 + x").label == "equal"


def test_a_closed_pool_starts_again() -> None:
    assert verdict("x + 1", "1 + x").label == "equal"
    math_equal.pool().close()
    assert verdict("x + 1", "1 + x").label == "equal"


@given(st.text(max_size=300), st.text(alphabet=r"0123456789\{}$()boxedfrac =.,/%-*#:", max_size=120))
def test_extraction_and_normal_form_take_any_text(text: str, mathlike: str) -> None:
    for said in (text, mathlike, text + mathlike):
        assert isinstance(normal(extract(said)), str)
    assert normal(normal(mathlike)) == normal(normal(normal(mathlike)))


@pytest.mark.parametrize(
    "text", ["$" * 50_000, "\\(" * 30_000, "9 " * 50_000, "answer is " * 20_000, "\\boxed{" * 20_000]
)
def test_extraction_of_long_texts_ends_soon(text: str) -> None:
    started = time.monotonic()
    normal(extract(text))
    assert time.monotonic() - started < 10


def math500(shared_data: Path) -> list[dict[str, str]]:
    with open(shared_data / "math/math500_test.jsonl", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def labels(pairs: list[tuple[str, str]]) -> list[str]:
    items = [ScoreItem(id=str(n), target=gold, answer=said) for n, (gold, said) in enumerate(pairs)]
    found = dict(score(math_equal.judge, items))
    return [found[n].label or found[n].invalid for n in range(len(items))]


def test_math500_answers_equal_themselves(shared_data: Path) -> None:
    rows = math500(shared_data)
    boxed = labels([(row["answer"], f"So it is $\\boxed{{{row['answer']}}}$.") for row in rows])
    solved = labels([(row["answer"], row["solution"]) for row in rows])
    assert boxed.count("equal") >= 490 and solved.count("equal") >= 490


def test_math500_answers_differ_from_others(shared_data: Path) -> None:
    answers = [row["answer"] for row in math500(shared_data)][:60]
    shuffled = random.Random(7).sample(answers, len(answers))
    pairs = [(gold, other) for gold, other in zip(answers, shuffled, strict=True) if normal(gold) != normal(other)]
    found = labels([(gold, f"\\boxed{{{other}}}") for gold, other in pairs])
    assert found.count("different") == len(pairs)


def test_gsm8k_golds(shared_data: Path) -> None:
    with gzip.open(shared_data / "math/gsm8k_test.jsonl.gz", "rt", encoding="utf-8") as file:
        answers = [json.loads(line)["answer"] for line in file]
    golds = [answer.split("####")[1].strip() for answer in answers]
    assert labels([(gold, answer) for gold, answer in zip(golds, answers, strict=True)]) == ["equal"] * 1319
    prose = labels([(gold, f"So, all in all, there are {gold} of them left.") for gold in golds])
    assert prose == ["equal"] * 1319
    wrong = labels([(gold, f"It is {int(gold.replace(',', '')) + 1}.") for gold in golds])
    assert wrong == ["different"] * 1319
