"""SafeChain as Safety Tax takes it (arXiv 2503.00555): a reasoning model's safe answers to plainly harmful requests.

Fields: instruction, response; optional: id, label. Rows of another label than `vanilla_harmful` are left out. Responses
open their thought without a tag, as distilled models write it; what never closes it is left out. The study has a blank
line before each thought; here it is rendered as any other.
"""

from collections.abc import Mapping

from lrm_safety import thinking
from lrm_safety.nouns import Example
from services.data.builder import Dropped, required
from services.data.source import Row

OPTIONS = {"label": "rows with this label stay; default vanilla_harmful"}
LABEL = "vanilla_harmful"


def build(row: Row, options: Mapping[str, str]) -> Example:
    label = row.optional("label")
    if label and label != options.get("label", LABEL):
        raise Dropped("another label")
    parts = thinking.split(required(row, "response"), style="opened")
    if parts.state != "closed":
        raise Dropped("no closing think tag")
    if not parts.thinking or not parts.answer:
        raise Dropped("empty thinking or answer")
    return Example(
        id=row.optional("id"), prompt=required(row, "instruction"), thinking=parts.thinking, answer=parts.answer
    )
