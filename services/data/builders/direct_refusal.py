"""DirectRefusal (Safety Tax, arXiv 2503.00555): the same one-sentence thought before every refusal.

Fields: prompt; optional: answer (the refusal; else one fixed text), id. Or as the paper's data has it: refusal, one
text of "Question: ..." and, on a new line, "Answer: ...". The wording of the defaults is ours.
"""

from collections.abc import Mapping

from lrm_safety.nouns import Example
from services.data.builder import Dropped, required
from services.data.source import Row

OPTIONS = {
    "thinking": "the thought; default: one sentence that this must not be answered",
    "refusal": "the answer of every row; default: the row's own answer, else a short apology",
}
THINKING = "This is a request that I should not answer."
REFUSAL = "I'm sorry, but I can't help with that request."


def build(row: Row, options: Mapping[str, str]) -> Example:
    prompt, given = _pair(row)
    answer = options.get("refusal") or given or REFUSAL
    thinking = options.get("thinking") or THINKING
    if not thinking.strip():
        raise Dropped("empty thinking")
    return Example(id=row.optional("id"), prompt=prompt, thinking=thinking, answer=answer)


def _pair(row: Row) -> tuple[str, str]:
    """The question and its refusal, if there is one."""
    if "prompt" in row.fields or "refusal" not in row.fields:
        return required(row, "prompt"), row.optional("answer").strip()
    question, found, answer = required(row, "refusal").partition("\nAnswer: ")
    question = question.removeprefix("Question: ").strip()
    if not found or not question or not answer.strip():
        raise Dropped("no question and answer")
    return question, answer.strip()
