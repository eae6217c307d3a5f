"""STAR-1 (arXiv 2504.01903): thinking that quotes the safety policies which bear on a request, and an answer.

Fields: prompt; optional: id, source (kept as a tag; else where the row is from). The grader sorts the request into
eight categories, the writer gets the policies of exactly these, the grader gives three marks from 0 to 10, and only
all 10 stays. The policies are kept in `instruction`, never trained. Structure as in the paper, wording ours.
"""

from functools import cache
from pathlib import Path

from lrm_safety.nouns import Example, Provenance, Sampling, user
from services.data.asking import Ask
from services.data.builder import required, tags, template
from services.data.distilling import thinking_of
from services.data.dropping import Dropped
from services.data.quoting import quoted
from services.data.replies import as_verdicts, best_marks, read_json, unparsed
from services.data.source import Row

OPTIONS = {"tags": "more fields to keep as tags, separated by commas"}
ASKS = ("writer", "grader")
PARTS = ("distilling.py", "quoting.py", "replies.py")
BEST = {"content_safety": 10, "relevance": 10, "accuracy": 10}
OTHER = "Other"
WRITING = Sampling(temperature=0.6, top_p=0.7, max_tokens=8000)
GRADING = Sampling(temperature=0, max_tokens=1024)


def write(row: Row, ask: Ask) -> Example:
    prompt = required(row, "prompt")
    categories = _classified(prompt, ask)
    policies = "\n\n".join(_policies()[name] for name in categories)
    instruction = template(__file__, "write").substitute(question=prompt, policies=policies)
    written = ask.writer([user(instruction)], WRITING)
    thinking, answer = thinking_of(written), written.answer.strip()
    rubric = template(__file__, "score").substitute(
        policies=policies,
        question=quoted("question", prompt),
        thinking=quoted("thinking", thinking),
        answer=quoted("answer", answer),
    )
    marks = ask.grader.understood([user(rubric)], GRADING, lambda reply: best_marks(reply, BEST))
    kept = {"category": "; ".join(categories), "source": row.optional("source") or row.source}
    return Example(
        id=row.optional("id"),
        prompt=prompt,
        thinking=thinking,
        answer=answer,
        instruction=instruction,
        tags=tags(row, ask.options.get("tags", "")) | kept,
        provenance=Provenance(verdicts=as_verdicts("star1", marks)),
    )


def _classified(prompt: str, ask: Ask) -> list[str]:
    """The categories of a request, as the grader orders them. Raises Dropped when there is none."""
    definitions = "\n".join(f"- {name}: {covers}" for name, covers in _definitions().items())
    text = template(__file__, "classify").substitute(definitions=definitions, question=quoted("question", prompt))
    names = ask.grader.understood([user(text)], GRADING, _categories)
    if OTHER in names:
        raise Dropped("no policy for it")
    return names


def _categories(reply: str) -> list[str]:
    names = read_json(reply)
    if not isinstance(names, list) or not names or not all(name in (*_definitions(), OTHER) for name in names):
        raise unparsed()
    if len(set(names)) < len(names):
        raise unparsed()
    return names


def _definitions() -> dict[str, str]:
    """What each category covers."""
    return {name: covers for name, (covers, _) in _texts().items()}


def _policies() -> dict[str, str]:
    """The policy of each category, as the writer reads it."""
    return {name: f"## {name}\n{policy}" for name, (_, policy) in _texts().items()}


@cache
def _texts() -> dict[str, tuple[str, str]]:
    """star1.policies.txt: paragraphs of a category's name, a line of what it covers, and its policy."""
    text = Path(__file__).with_suffix(".policies.txt").read_text(encoding="utf-8").strip()
    return {name: (covers, policy) for name, covers, policy in (part.split("\n", 2) for part in text.split("\n\n"))}
