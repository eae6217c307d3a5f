"""Drops examples whose response a judge finds wanting: any judge there is, ReasoningShield's levels by default.

What stays is a verdict whose value is `at_most` (default 0: of a judge of harm nothing but safe), or `at_least` with a
judge of refusals. Without a verdict an example goes, counted apart; verdicts are kept in its provenance. LRM-Safety-
Study (arXiv 2505.15404) filters what it distilled this way.
"""

from collections.abc import Sequence

from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import Example, ScoreItem
from services.data.asking import Ask
from services.data.dropping import Dropped
from services.data.filter import FilterContext, Keep
from services.data.streams import ENGINE_ERROR

OPTIONS = {
    "judge": "name of the judge; default reasoning_shield",
    "at_most": "highest value that stays, from 0 to 1; default 0 unless at_least is given",
    "at_least": "lowest value that stays, from 0 to 1",
}
UNWANTED, NO_VERDICT = "unwanted verdict", "no verdict"


def prepare(context: FilterContext) -> Keep:
    judge = context.judge(context.options.get("judge", "reasoning_shield"))
    lowest = _value(context, "at_least", 0.0)
    highest = _value(context, "at_most", 1.0 if "at_least" in context.options else 0.0)

    def work(example: Example, ask: Ask) -> str:
        item = ScoreItem(id=example.id, prompt=example.prompt, thinking=example.thinking, answer=example.answer)
        verdict = ask.judge(judge, item)
        example.provenance.verdicts.append(verdict)
        if verdict.invalid:
            raise Dropped(NO_VERDICT, "failed" if verdict.invalid.startswith(ENGINE_ERROR) else "unparsed")
        return "" if lowest <= verdict.value <= highest else UNWANTED

    def keep(examples: Sequence[Example]) -> list[str]:
        reasons = context.ask(work, examples)
        for example, reason in zip(examples, reasons, strict=True):
            label = example.provenance.verdicts[-1].label or NO_VERDICT
            context.findings.label(example, [label], stays=not reason)
        return reasons

    return keep


def _value(context: FilterContext, name: str, default: float) -> float:
    text = context.options.get(name, str(default))
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise InvalidInput(f"filter judged: {name} is {text!r}; expected a number from 0 to 1")
    return value
