"""Context distillation (LRM-Safety-Study, arXiv 2505.15404): a model answers under an instruction, and the pair is
trained without it.

The instruction stands before the request in the user's turn, or in the system's turn; the example keeps it in a field
of its own. What comes back must be one closed thought and an answer.
"""

from collections.abc import Mapping, Sequence

from lrm_safety.chat import THINK_CLOSE, THINK_OPEN
from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import Completion, Example, Message, Sampling, ScoreItem, Verdict, user
from services.data.asking import Ask
from services.data.builder import Dropped, required, tags
from services.data.source import Row

PLACES = ("user", "system")
OPTIONS = {
    "tags": "fields to keep as tags, separated by commas; default: type",
    "thinking": "required (default), or optional: answers without a thought stay, too",
    "refusals": "keep (default), or drop: answers that the judge `refusal` takes for one go, for harmless requests",
}
INSTRUCTED = {**OPTIONS, "place": "where the instruction stands: user or system; default: as in the study"}
SAMPLING = Sampling(temperature=0.6, top_p=0.95, max_tokens=8192)
REFUSAL = "refusal"  # a judge, and its label
_REQUEST = "REQUEST:"


def judges(options: Mapping[str, str]) -> Sequence[str]:
    """Those that a part with these options asks."""
    refusals = options.get("refusals", "keep")
    if refusals not in ("keep", "drop"):
        raise InvalidInput(f"option refusals is {refusals!r}; expected one of: keep, drop")
    return [REFUSAL] if refusals == "drop" else []


def distilled(row: Row, ask: Ask, instruction: str = "", place: str = "user") -> Example:
    """The example that the writer makes of a row's prompt. Raises Dropped."""
    prompt = required(row, "prompt")
    completion = ask.writer(asked(prompt, instruction, ask.options.get("place", place)), SAMPLING)
    thinking = thinking_of(completion, ask.options.get("thinking", "required"))
    example = Example(
        id=row.optional("id"),
        prompt=prompt,
        thinking=thinking,
        answer=completion.answer.strip(),
        tags=tags(row, ask.options.get("tags", "type")),
        instruction=instruction,
    )
    for judge in judges(ask.options):
        example.provenance.verdicts.append(_answered(judge, example, ask))
    return example


def asked(prompt: str, instruction: str, place: str) -> list[Message]:
    """The conversation that the writer sees."""
    if place not in PLACES:
        raise InvalidInput(f"option place is {place!r}; expected one of: {', '.join(PLACES)}")
    if not instruction:
        return [user(prompt)]
    if place == "system":
        return [Message(role="system", content=instruction), user(prompt)]
    return [user(f"{instruction}\n\n{_REQUEST}\n{prompt}")]


def _answered(judge: str, example: Example, ask: Ask) -> Verdict:
    """The verdict that the answer is none of a refusal. Raises Dropped."""
    verdict = ask.judge(judge, ScoreItem(prompt=example.prompt, thinking=example.thinking, answer=example.answer))
    if verdict.invalid:
        raise Dropped("no verdict", "unparsed")
    if verdict.label == REFUSAL:
        raise Dropped("writer refused", "refused")
    return verdict


def thinking_of(completion: Completion, wanted: str = "required") -> str:
    """The thought, when the completion can be an example. Raises Dropped when there is none, or tags are inside."""
    if wanted not in ("required", "optional"):
        raise InvalidInput(f"option thinking is {wanted!r}; expected one of: required, optional")
    if wanted == "required" and not completion.thinking.strip():
        raise Dropped("no thinking", "unparsed")
    if any(tag in text for tag in (THINK_OPEN, THINK_CLOSE) for text in (completion.thinking, completion.answer)):
        raise Dropped("stray think tags", "unparsed")
    return completion.thinking.strip()
