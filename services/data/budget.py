"""The budget of a build: what is asked is reserved before and settled after, so the limits are never passed."""

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from lrm_safety.errors import Exhausted, InvalidInput
from lrm_safety.nouns import Asked, Budget, Completion, Prompt, Sampling, ScoreItem, Usage, Verdict, Writer

DEFAULT_TOKENS = 512  # of a sampling that says nothing
_MILLION = 1e6


@dataclass
class _Sum:
    tokens: float = 0.0
    cost: float = 0.0

    def add(self, tokens: float, cost: float) -> None:
        self.tokens += tokens
        self.cost += cost


class Purse:
    """Shared by all models and threads of a build."""

    def __init__(self, budget: Budget) -> None:
        self._budget, self._reserved = budget, _Sum()
        self.spent, self.before = _Sum(), _Sum()  # in all; of that, by owners of the run that are gone
        self._changed = threading.Condition()

    def spent_before(self, asked: Asked) -> None:
        """By the owners of this run that are gone."""
        with self._changed:
            self.spent.add(asked.completion_tokens, asked.cost)
            self.before.add(asked.completion_tokens, asked.cost)

    @contextmanager
    def paying(self, model: Writer, at_most: Usage) -> Iterator[Callable[[Completion | Verdict], float]]:
        """Waits until the question fits for sure; the function it gives is told the answer and returns its cost.

        Raises Exhausted when it would not fit even after all that is being asked.
        """
        tokens, most = float(at_most.completion_tokens), _cost(model, at_most)
        self._reserve(tokens, most)

        def pay(answer: Completion | Verdict) -> float:
            if answer.cached:
                return 0.0
            cost = _cost(model, answer.usage)
            with self._changed:
                self.spent.add(answer.usage.completion_tokens, cost)
            return cost

        try:
            yield pay
        finally:
            with self._changed:
                self._reserved.add(-tokens, -most)
                self._changed.notify_all()

    def _reserve(self, tokens: float, cost: float) -> None:
        with self._changed:
            while not self._fits(tokens + self._reserved.tokens, cost + self._reserved.cost):
                if not self._fits(tokens, cost):
                    raise Exhausted(
                        f"the budget is used up: {self.spent.tokens:.0f} tokens were written for "
                        f"{self.spent.cost:.4g}, and the next answer may pass its max_tokens "
                        f"{self._budget.max_tokens:.0f} or max_cost {self._budget.max_cost:g}; raise it and build "
                        "again: what is answered is remembered"
                    )
                self._changed.wait()
            self._reserved.add(tokens, cost)

    def _fits(self, tokens: float, cost: float) -> bool:
        most_tokens, most_cost = self._budget.max_tokens or math.inf, self._budget.max_cost or math.inf
        return self.spent.tokens + tokens <= most_tokens and self.spent.cost + cost <= most_cost


def most_written(prompt: Prompt, sampling: Sampling) -> Usage:
    """What an answer takes at most; no text has more tokens than bytes."""
    read = _bytes(message.content for message in prompt.messages)
    return Usage(prompt_tokens=read, completion_tokens=sampling.max_tokens or DEFAULT_TOKENS)


def most_judged(item: ScoreItem, at_most: Usage) -> Usage:
    """What a verdict takes at most, by a judge that says what it takes `at_most` beside the item's texts."""
    read = _bytes((item.prompt, item.thinking, item.answer, item.target))
    return Usage(prompt_tokens=at_most.prompt_tokens + read, completion_tokens=at_most.completion_tokens)


def check(budget: Budget, models: Sequence[Writer]) -> None:
    """Raises InvalidInput for a budget that cannot be kept."""
    if budget.max_tokens < 0 or budget.max_cost < 0:
        raise InvalidInput("budget: max_tokens and max_cost are 0 for no limit, or above it")
    unpriced = [model.endpoint for model in models if not (model.prompt_price or model.completion_price)]
    if budget.max_cost and unpriced:
        raise InvalidInput(
            f"budget: max_cost needs prompt_price and completion_price of {', '.join(unpriced)} (of a million tokens)"
        )


def _cost(model: Writer, usage: Usage) -> float:
    return (model.prompt_price * usage.prompt_tokens + model.completion_price * usage.completion_tokens) / _MILLION


def _bytes(texts: Iterable[str]) -> int:
    return sum(len(text.encode()) for text in texts)
