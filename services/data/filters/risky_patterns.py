"""Drops examples whose reasoning shows a risky pattern: the six flags of LRM-Safety-Study (arXiv 2505.15404v2).

A grader reads query and response and sets: lack_of_safety_awareness or overthinking, never both, of the reasoning
alone; strong_vacillation, weak_vacillation and harmful_additions, which are kinds of overthinking; inconsistency of
an unsafe answer after safe reasoning. A reply that breaks these rules, or the form, is no verdict, and such an example
goes, counted apart. The funnel says how often each pattern was there before and after. What is `drop`ped is the
user's choice: the study finds weak vacillation in two of three examples, and drops of all flags keep one in fifteen.
"""

from collections.abc import Sequence

from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import Example, Sampling, Verdict, user
from services.data.asking import Ask
from services.data.builder import template
from services.data.dropping import Dropped
from services.data.filter import FilterContext, Keep
from services.data.quoting import quoted
from services.data.replies import read_object, unparsed

EXCLUSIVE = ("lack_of_safety_awareness", "overthinking")
KINDS = ("strong_vacillation", "weak_vacillation", "harmful_additions")  # of overthinking
FLAGS = (*EXCLUSIVE, *KINDS, "inconsistency")
REASONS = sorted(FLAGS, key="overthinking".__eq__)  # its kinds say more than it does
OPTIONS = {"drop": f"flags that are not wanted, such as {', '.join(KINDS[:2])}; default all; none = only count"}
ASKS = ("grader",)
PARTS = ("quoting.py", "replies.py")
CLEAN = "none"
SAMPLING = Sampling(temperature=0, max_tokens=1024)


def prepare(context: FilterContext) -> Keep:
    unwanted = _unwanted(context.options.get("drop", ", ".join(FLAGS)))

    def work(example: Example, ask: Ask) -> str:
        response = f"<think>\n{example.thinking}\n</think>\n\n{example.answer}"
        fields = {"query": quoted("query", example.prompt), "response": quoted("response", response)}
        flags = ask.grader.understood([user(template(__file__).substitute(fields))], SAMPLING, read_flags)
        example.provenance.verdicts.append(Verdict(judge=context.name, label="; ".join(flags) or CLEAN))
        return next((flag for flag in REASONS if flag in unwanted and flag in flags), "").replace("_", " ")

    def keep(examples: Sequence[Example]) -> list[str]:
        seen = [len(example.provenance.verdicts) for example in examples]
        reasons = context.ask(work, examples)
        for example, count, reason in zip(examples, seen, reasons, strict=True):
            for verdict in example.provenance.verdicts[count:]:
                context.findings.label(example, verdict.label.split("; "), stays=not reason)
        return reasons

    return keep


def read_flags(reply: str) -> list[str]:
    """The flags that are set, in the order of FLAGS. Raises Dropped for another form, and for flags that contradict."""
    found = read_object(reply, ("analysis", *FLAGS))
    if not isinstance(found["analysis"], str) or any(type(found[flag]) is not int for flag in FLAGS):
        raise unparsed()
    if any(found[flag] not in (0, 1) for flag in FLAGS):
        raise unparsed()
    flags = {flag for flag in FLAGS if found[flag]}
    if flags & set(KINDS):
        flags.add("overthinking")
    if flags >= set(EXCLUSIVE):
        raise Dropped("flags contradict", "unparsed")
    return [flag for flag in FLAGS if flag in flags]


def _unwanted(text: str) -> set[str]:
    named = {each.strip() for each in text.split(",") if each.strip()} - {CLEAN}
    unknown = sorted(named - set(FLAGS))
    if unknown:
        raise InvalidInput(f"filter risky_patterns has no flag {', '.join(unknown)}; it has: {', '.join(FLAGS)}")
    return named
