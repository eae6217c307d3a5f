"""An Ask whose models are functions: builders are tested with it, to the letter and without any service."""

from collections.abc import Callable, Sequence

from lrm_safety import thinking
from lrm_safety.nouns import Asked, Completion, Message, Prompt, Sampling, ScoreItem, ThinkState, Usage, Verdict
from services.data.asking import Ask, Asker

Reply = Callable[[Sequence[Message]], str | Completion]
STATES = {
    "closed": ThinkState.THINK_STATE_CLOSED,
    "truncated": ThinkState.THINK_STATE_TRUNCATED,
    "absent": ThinkState.THINK_STATE_ABSENT,
}


def scripted_ask(
    writer: Reply | None = None,
    grader: Reply | None = None,
    judge: Callable[[str, ScoreItem], Verdict] | None = None,
    options: dict[str, str] | None = None,
) -> Ask:
    """What a script does not answer must not be asked. Text is taken apart as inference does; a Completion is as it is.

    def reply(messages): return "<think>\\nHm.\\n</think>\\n\\nSo."
    """
    asked = Asked()
    return Ask(_asker("writer", writer, asked), _asker("grader", grader, asked), judge or _nobody, options or {}, asked)


def completed(text: str, finish_reason: str = "stop") -> Completion:
    parts = thinking.split(text)
    return Completion(
        thinking=parts.thinking,
        answer=parts.answer,
        think_state=STATES[parts.state],
        finish_reason=finish_reason,
        usage=Usage(prompt_tokens=7, completion_tokens=len(text.split())),
    )


def _asker(role: str, reply: Reply | None, asked: Asked) -> Asker:
    def send(prompt: Prompt, sampling: Sampling) -> Completion:
        assert reply is not None, f"the {role} was asked"
        said = reply(list(prompt.messages))
        return completed(said) if isinstance(said, str) else said

    return Asker(role, send, Sampling(), asked)


def _nobody(judge: str, item: ScoreItem) -> Verdict:
    raise AssertionError(f"judge {judge} was asked")
