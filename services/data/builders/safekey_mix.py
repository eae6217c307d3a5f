"""SafeKey's mix (arXiv 2505.16186): examples with the spans of their understanding and of their key sentence.

Fields: as star1_file (question, response), or prompt, thinking, answer; optional: id, category, source. The
understanding is where the thinking takes in the request, the key sentence the first that does something with it. Found
by rules, or by the grader (safekey_mix.txt). Tag `safety` is safe for a harmless request, else unsafe.
"""

import re

from lrm_safety.chat import THINK_OPEN, target_text
from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import Example, Sampling, Span, user
from services.data.asking import Ask
from services.data.builder import template
from services.data.builders import as_written, star1_file
from services.data.dropping import Dropped
from services.data.quoting import quoted
from services.data.replies import read_object, unparsed
from services.data.sentences import sentences
from services.data.source import Row

OPTIONS = {
    "annotator": "who finds the key sentence: rules | grader; default rules",
    "safe": "sources whose requests are harmless, separated by commas; default 4o_rewrite, benign_rewrite",
}
ASKS: tuple[str, ...] = ()  # only annotator: grader asks anybody
PARTS = ("quoting.py", "replies.py", "sentences.py", "builders/star1_file.py", "builders/as_written.py")
SAFE = "4o_rewrite, benign_rewrite"
GRADING = Sampling(temperature=0, max_tokens=1024)
SHOWN = 30  # sentences that the grader sees: the key sentence comes early
_OF_THE_REQUEST = re.compile(r"\b(users?|they|their|request|question|query|prompt|ask(s|ed|ing)?|wants?)\b", re.I)
_OF_THE_TASK = re.compile(
    r"\b(polic\w+|rules?|guidelines?|harm\w*|(un)?safe\w*|(il)?legal\w*|unlawful|(un)?ethical\w*|allowed|prohibit\w*|"
    r"violat\w*|refus\w*|danger\w*|risk\w*|sensitive|must|should|need to|have to|let me|let's|first|recall|remember|"
    r"consider|check|wait|hmm)\b",
    re.I,
)


def write(row: Row, ask: Ask) -> Example:
    example = _read(row)
    safe = [source.strip() for source in ask.options.get("safe", SAFE).split(",")]
    example.tags["safety"] = "safe" if example.tags.get("source", "") in safe else "unsafe"
    annotator = ask.options.get("annotator", "rules")
    if annotator not in ("rules", "grader"):
        raise InvalidInput(f"builder safekey_mix: annotator is {annotator!r}; expected rules or grader")
    found = sentences(example.thinking)
    texts = [example.thinking[sentence.start : sentence.end] for sentence in found]
    key = _by_grader(example.prompt, texts, ask) if annotator == "grader" else _by_rules(texts)
    example.spans.extend(_spans(example, found[key - 1].end, found[key].end))
    return example


def _by_rules(texts: list[str]) -> int:
    """Index of the first sentence, after the first of all, that does more than say what the user asks for."""
    for index, text in enumerate(texts[1:], start=1):
        if _OF_THE_TASK.search(text) or not _OF_THE_REQUEST.search(text):
            return index
    raise Dropped("no key sentence")


def _by_grader(prompt: str, texts: list[str], ask: Ask) -> int:
    shown = texts[:SHOWN]
    numbered = "\n".join(f"{number}. {' '.join(text.split())}" for number, text in enumerate(shown, start=1))
    text = template(__file__).substitute(question=quoted("question", prompt), sentences=quoted("sentences", numbered))
    number = ask.grader.understood([user(text)], GRADING, _key_sentence)
    if not 2 <= number <= len(shown):
        raise Dropped("no key sentence")
    return number - 1


def _key_sentence(reply: str) -> int:
    number = read_object(reply, ("key_sentence",))["key_sentence"]
    if type(number) is not int:
        raise unparsed()
    return number


def _spans(example: Example, understanding_end: int, key_end: int) -> list[Span]:
    """The two spans, one after the other, from offsets in the thinking to offsets in the whole response."""
    response = target_text(example, "keep")
    start = response.index(example.thinking, len(THINK_OPEN))
    u, k = start + understanding_end, start + key_end
    if not 0 < u < k <= start + len(example.thinking):
        raise Dropped("spans out of order")
    return [Span(name="understanding", start=0, end=u), Span(name="key", start=u, end=k)]


def _read(row: Row) -> Example:
    if "response" in row.fields:
        return star1_file.build(row, {})
    return as_written.build(row, {"tags": "category,source"})
