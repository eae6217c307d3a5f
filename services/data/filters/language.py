"""Drops prompts in another language than those that are wanted, as py3langid sees it (langid.py, Lui and Baldwin 2012).

Short texts are hard: a prompt goes only when another language is at least `sure` likely. Of 4,202 English prompts of
XSTest, AdvBench, StrongREJECT, JailbreakBench, GSM8K, MATH-500 and STAR-1 it drops 2 at the default.
"""

from functools import cache
from typing import Any

from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import Example
from services.data import reference
from services.data.filter import FilterContext, Keep, one_by_one

OPTIONS = {
    "languages": "ISO 639-1 codes that stay, such as en, de; default en",
    "sure": "how likely another language must be; default 0.8",
}
PARTS = ("reference.py",)
REASON = "other language"


def prepare(context: FilterContext) -> Keep:
    wanted = {each.strip() for each in context.options.get("languages", "en").split(",") if each.strip()}
    sure = reference.share(context, "sure", 0.8)
    model = _model()
    unknown = sorted(wanted - set(model.labels))
    if unknown or not wanted:
        raise InvalidInput(
            f"filter language: languages is {', '.join(unknown) or 'empty'}; expected ISO 639-1 codes such as en"
        )

    def reason(example: Example) -> str:
        language, probability = model.classify(example.prompt)
        return REASON if language not in wanted and probability >= sure else ""

    return one_by_one(reason)


@cache
def _model() -> Any:
    from py3langid import langid

    return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)
