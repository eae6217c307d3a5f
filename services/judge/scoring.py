"""The loop over items: asks each judge the way it wants to be asked, and seals what it says into a Verdict."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from lrm_safety import observe
from lrm_safety.errors import InvalidInput, LrmError
from lrm_safety.nouns import Completion, Prompt, Sampling, ScoreItem, Usage, Verdict
from services.judge.asking import prompt_for, sampling_for
from services.judge.judge import Judge, ModelJudge, RuleJudge

Ask = Callable[[Sequence[Prompt], Sampling], Iterator[Completion]]  # one Completion a Prompt, in any order
Scored = Iterator[tuple[int, Verdict]]  # (index of the item, its verdict), as they are ready

ENGINE_ERROR = "engine error"
_BATCH = 256  # prompts an ask; bounds what one message holds, the engine sets its own pace inside it

log = observe.logger(__name__)


def score(judge: Judge, items: Sequence[ScoreItem], ask: Ask | None = None, weights_digest: str = "") -> Scored:
    """One verdict for each item. A judge that asks a model needs `ask` and the digest of that model's weights.

    An item that cannot be judged, a failed reply and a judge that stumbles over one item are invalid verdicts. What
    stops all of them (no engine, a missing library) raises.
    """
    digest = judge.digest(weights_digest)
    for index, verdict in _verdicts(judge, items, ask):
        yield index, _sealed(judge, items[index], verdict, digest)


def at_most(judge: ModelJudge) -> Usage:
    """What one verdict takes beside the texts of its item; no text has more tokens than bytes."""
    rubric = prompt_for(judge, ScoreItem(), "").messages[0].content
    return Usage(prompt_tokens=len(rubric.encode()), completion_tokens=judge.max_tokens)


def _verdicts(judge: Judge, items: Sequence[ScoreItem], ask: Ask | None) -> Scored:
    fit = []
    for index, item in enumerate(items):
        reason = judge.unfit(item)
        if reason:
            yield index, Verdict(invalid=reason)
        else:
            fit.append(index)
    if isinstance(judge, RuleJudge):
        yield from _by_rules(judge, items, fit)
    elif isinstance(judge, ModelJudge):
        if ask is None:
            raise InvalidInput(f"judge {judge.name} asks a model: name the endpoint that serves it")
        yield from _by_model(judge, items, fit, ask)


def _by_rules(judge: RuleJudge, items: Sequence[ScoreItem], fit: Sequence[int]) -> Scored:
    if judge.parallel == 1:
        yield from ((index, _decided(judge, items[index])) for index in fit)
        return
    threads = ThreadPoolExecutor(judge.parallel)
    try:
        running = {threads.submit(_decided, judge, items[index]): index for index in fit}
        for done in as_completed(running):
            yield running[done], done.result()
    finally:
        threads.shutdown(cancel_futures=True)


def _decided(judge: RuleJudge, item: ScoreItem) -> Verdict:
    try:
        return judge.decide(item)
    except LrmError:
        raise
    except Exception as error:  # noqa: BLE001  one odd item must not take the others with it
        log.error("judge_failed", judge=judge.name, item=item.id, error=type(error).__name__)
        return Verdict(invalid=f"judge failed: {type(error).__name__}")


def _by_model(judge: ModelJudge, items: Sequence[ScoreItem], fit: Sequence[int], ask: Ask) -> Scored:
    """Items with the same request follow each other, so the engine finds rubric and request in its prefix cache."""
    ordered = sorted(fit, key=lambda index: items[index].prompt)
    sampling = sampling_for(judge)
    for start in range(0, len(ordered), _BATCH):
        waiting = {str(index): index for index in ordered[start : start + _BATCH]}
        prompts = [prompt_for(judge, items[index], name) for name, index in waiting.items()]
        for completion in ask(prompts, sampling):
            found = waiting.pop(completion.id, None)
            if found is not None:
                verdict = Verdict(usage=completion.usage, cached=completion.cached)
                verdict.MergeFrom(_read(judge, completion))
                yield found, verdict
        yield from ((index, Verdict(invalid=f"{ENGINE_ERROR}: no reply came")) for index in waiting.values())


def _read(judge: ModelJudge, completion: Completion) -> Verdict:
    if completion.error:
        return Verdict(invalid=f"{ENGINE_ERROR}: {completion.error}")
    if completion.finish_reason == "length":
        return Verdict(invalid=f"reply cut: longer than {judge.max_tokens} tokens")
    if completion.finish_reason == "content_filter":
        return Verdict(invalid="reply filtered")
    return judge.read_reply(completion.answer)


def _sealed(judge: Judge, item: ScoreItem, verdict: Verdict, digest: str) -> Verdict:
    """The verdict with whose it is. Raises InvalidInput when the judge breaks its own declaration."""
    whose = Verdict(id=item.id, judge=judge.name, judge_digest=digest, measure=judge.measure)
    if verdict.invalid:
        whose.invalid, whose.cached = verdict.invalid, verdict.cached
        if verdict.HasField("usage"):
            whose.usage.CopyFrom(verdict.usage)
        return whose
    if verdict.label not in judge.labels or not 0 <= verdict.value <= 1:
        raise InvalidInput(
            f"judge {judge.name} gave label {verdict.label!r} and value {verdict.value}; it declares the labels "
            f"{', '.join(judge.labels)}, and a value lies in [0, 1]"
        )
    whose.MergeFrom(verdict)
    return whose
