"""STAR-1's harmless twins (arXiv 2504.01903): a harmful request made harmless, and answered, against over-refusal.

Fields: prompt, the harmful request; optional: id, category. The grader writes a harmless request that looks like it,
the writer thinks about that one and answers it, the grader gives three marks from 1 to 5, and only all 5 stays. Tags:
source (benign_rewrite), twin_of, category (the harmful request's). Structure as in the paper, wording ours.
"""

from lrm_safety.nouns import Example, Provenance, Sampling, user
from services.data.asking import Ask
from services.data.builder import required, tags, template
from services.data.builders.star1_file import category_of
from services.data.distilling import thinking_of
from services.data.dropping import Dropped
from services.data.quoting import quoted
from services.data.replies import as_verdicts, best_marks, read_object, unparsed
from services.data.source import Row

OPTIONS = {"tags": "more fields to keep as tags, separated by commas"}
ASKS = ("writer", "grader")
PARTS = ("distilling.py", "quoting.py", "replies.py", "builders/star1_file.py")
SOURCE = "benign_rewrite"
BEST = {"content_safety": 5, "thinking_quality": 5, "compliance": 5}
WRITING = Sampling(temperature=0.6, top_p=0.7, max_tokens=8000)
GRADING = Sampling(temperature=0, max_tokens=1024)


def write(row: Row, ask: Ask) -> Example:
    prompt = _rewritten(required(row, "prompt"), ask)
    written = ask.writer([user(prompt)], WRITING)
    thinking, answer = thinking_of(written), written.answer.strip()
    rubric = template(__file__, "score").substitute(
        question=quoted("question", prompt), thinking=quoted("thinking", thinking), answer=quoted("answer", answer)
    )
    marks = ask.grader.understood([user(rubric)], GRADING, lambda reply: best_marks(reply, BEST, lowest=1))
    twin = row.optional("id") or f"{row.source}#{row.number}"
    kept = {"source": SOURCE, "twin_of": twin, "category": category_of(row)}
    return Example(
        id=row.optional("id"),
        prompt=prompt,
        thinking=thinking,
        answer=answer,
        tags=tags(row, ask.options.get("tags", "")) | {name: value for name, value in kept.items() if value},
        provenance=Provenance(verdicts=as_verdicts("star1_benign", marks)),
    )


def _rewritten(harmful: str, ask: Ask) -> str:
    text = template(__file__, "rewrite").substitute(question=quoted("question", harmful))
    request = ask.grader.understood([user(text)], GRADING, _request)
    if request.casefold().split() == harmful.casefold().split():
        raise Dropped("request unchanged")
    return request


def _request(reply: str) -> str:
    request = read_object(reply, ("request",))["request"]
    if not isinstance(request, str) or not request.strip():
        raise unparsed()
    return request.strip()
