"""What a prompt becomes for one endpoint, and what its raw reply means.

Our own checkpoints get the text that training rendered (lrm_safety/chat.py), posted to /completions; the model's stock
template, which may drop or open a thought its own way, is never used twice. A URL of others gets the messages.
"""

from dataclasses import dataclass
from pathlib import Path

from lrm_safety import thinking
from lrm_safety.chat import ChatTemplate
from lrm_safety.chat_client import ChatRequest, Reply
from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import Completion, Endpoint, Prompt, Sampling, ThinkState, Usage
from services.inference.engine import Engine, Rendered

THINK_STATES = {
    "closed": ThinkState.THINK_STATE_CLOSED,
    "truncated": ThinkState.THINK_STATE_TRUNCATED,
    "absent": ThinkState.THINK_STATE_ABSENT,
}
UNTOLD_WINDOW = (4, 64)
VENDOR_WINDOW = (8, 8)


@dataclass(frozen=True)
class Target:
    """An endpoint with what is needed to talk to it."""

    endpoint: Endpoint
    replicas: tuple[str, ...]  # urls that take requests
    engine: Engine | None = None  # of our own checkpoints, with the next two
    template: ChatTemplate | None = None
    folder: Path = Path()  # without its weights

    @property
    def is_vendor(self) -> bool:
        """Somebody else's machine: plain HTTP is spoken to our own only."""
        return self.endpoint.url.startswith("https://")

    @property
    def window(self) -> tuple[int, int]:
        if self.engine is not None:
            return self.engine.window
        return VENDOR_WINDOW if self.is_vendor else UNTOLD_WINDOW

    def request(self, prompt: Prompt, sampling: Sampling) -> ChatRequest:
        """Raises InvalidInput when the prompt is empty or the template refuses it."""
        if not prompt.messages:
            raise InvalidInput("the prompt has no messages")
        seeded = Sampling()
        seeded.CopyFrom(sampling)
        seeded.seed = sampling.seed + prompt.repeat
        if self.endpoint.think_style != "none":
            del seeded.stop[:]  # an engine would stop inside the thought: see completion()
        if self.engine is None or self.template is None:
            return ChatRequest(
                self.endpoint.model, messages=list(prompt.messages), prefill=prompt.prefill, sampling=seeded
            )
        text = self.template.render(list(prompt.messages), prefill=prompt.prefill)
        keep = self.endpoint.think_style == "s1"
        return self.engine.request(Rendered(text, self.endpoint.model, self.folder, keep), seeded)

    def completion(self, prompt: Prompt, sampling: Sampling, reply: Reply, cached: bool) -> Completion:
        """The whole assistant's turn, prefill included, split; stop strings end the answer, never the thought."""
        opened = self.template is not None and self.template.opens_thinking
        turn = prompt.prefill + reply.text
        thought, answer, state = thinking.split(turn, style=self.endpoint.think_style, prompt_opened=opened)
        cut = _until(answer, list(sampling.stop))
        return Completion(
            id=prompt.id,
            thinking=thought,
            answer=cut,
            think_state=THINK_STATES[state],
            finish_reason=reply.finish_reason if cut == answer else "stop",
            usage=Usage(prompt_tokens=reply.prompt_tokens, completion_tokens=reply.completion_tokens),
            seed=sampling.seed + prompt.repeat,
            latency_s=0.0 if cached else reply.latency_s,
            cached=cached,
        )


def _until(answer: str, stops: list[str]) -> str:
    ends = [at for stop in stops if stop and (at := answer.find(stop)) >= 0]
    return answer[: min(ends)].rstrip() if ends else answer
