"""The request as it is: what every attack is compared with."""

from lrm_safety.nouns import Prompt, Sample
from services.bench.attack import Apply, AttackContext, Attempt

OPTIONS: dict[str, str] = {}


def prepare(context: AttackContext) -> Apply:
    return as_it_is


def as_it_is(sample: Sample) -> Attempt:
    return Attempt(Prompt(messages=sample.messages))
