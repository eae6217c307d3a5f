"""DirectRefusal (Safety Tax, arXiv 2503.00555): the same one-sentence thought before every refusal.

Fields: prompt; optional: answer (the refusal, as in the paper's data; else one fixed text), id. The wording is ours.
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
    answer = options.get("refusal") or row.optional("answer").strip() or REFUSAL
    thinking = options.get("thinking") or THINKING
    if not thinking.strip():
        raise Dropped("empty thinking")
    return Example(id=row.optional("id"), prompt=required(row, "prompt"), thinking=thinking, answer=answer)
