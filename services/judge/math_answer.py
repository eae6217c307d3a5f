"""What a model answered to a maths question, and the form in which two answers are compared. Text only, no algebra.

extract("... so it is \\boxed{\\frac{1}{2}}.")  -> "\\frac{1}{2}"
normal("$1{,}234 \\text{ cm}$")                 -> "1234"
same_number("073", "73")                        -> True; None when one of them is no plain number
"""

import re
from fractions import Fraction

_BOXES_TRIED = 20  # from the end; a text with more unclosed boxes has no answer
_LONGEST_LINE = 200  # a longer line is prose

_BOX = re.compile(r"\\(?:boxed|fbox)\s*")
_EMPTY_BOX = re.compile(r"\$?\\(?:boxed|fbox)\s*\{\s*\}\$?")
_MARKER = re.compile(r"####|\banswer\b\s*(?:is|:|=)+[ \t:]*", re.IGNORECASE)
_SPAN = re.compile(r"\$\$[^$]{1,500}\$\$|\$[^$\n]{1,500}\$|\\\(.{1,500}?\\\)|\\\[.{1,500}?\\\]", re.DOTALL)
_NUMBER_IN_TEXT = re.compile(
    r"(?<![\d.\w)])(?:-\$?|\$-?)?(?:\d+(?:,\d{3})+|\d+)(?:\.\d+)?(?:/\d+)?(?:\s?\\?%)?|(?<![\d.])\.\d+"
)
_FUNCTIONS = re.compile(
    r"\\(?:text|mbox|mathrm|textbf|operatorname|begin|end)\{[^{}]*\}|\\[A-Za-z]+|"
    r"\b(?:arc)?(?:sin|cos|tan|cot|sec|csc|log|ln|exp|sqrt|pi|infty|inf|oo|min|max|gcd|lcm|mod|and|or)\b"
)
_PROSE = re.compile(
    r"[A-Za-z]{3,}|\b(?:is|of|to|in|so|we|it|an|at|by|he|be|as|if|no|cm|mm|km|kg|mg|ml|ft|lb|oz|hr)\b", re.IGNORECASE
)

_UNICODE = str.maketrans(
    {
        **{"−": "-", "–": "-", "×": r"\times ", "·": r"\cdot ", "÷": "/", "⁄": "/", "π": r"\pi ", "∞": r"\infty "},
        **{"≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∪": r"\cup ", "∩": r"\cap ", "∅": r"\emptyset ", "°": ""},
        **{"²": "^2", "³": "^3", "½": r"\frac{1}{2}", "⅓": r"\frac{1}{3}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}"},
        **dict.fromkeys("\u00a0\u202f\u2009\u200b", " "),
    }
)
_DROPPED = re.compile(
    r"\\(?:left|right|displaystyle|bigl?|bigr?|Bigl?|Bigr?)(?![A-Za-z])|(?<!\\)\\(?:[!;:>,()]|[\[\]](?![a-z]))|\\?\$|"
    r"\^\s*\{?\\circ\}?|\\degrees?\b|\bdegrees?\b|\\circ\b"
)
_TEXT_COMMAND = re.compile(r"\\(?:text|mbox|mathrm|textbf|textit|mathbf|textrm|operatorname)\s*\{([^{}]*)\}")
_LATEX_UNIT = re.compile(r"(?<=[\d})])\s*\\(?:text|mbox|mathrm|textrm)\s*\{[^{}]*\}(?:\s*\^\s*\{?[23]\}?)?\s*$")
_UNIT = re.compile(
    r"(?<=\d)(?:\s+(?!pi\b|sqrt|and\b|or\b)[A-Za-z]{2,}[A-Za-z. /]*|"
    r"\s*(?:cm|mm|km|kg|mg|ml|ft|lbs?|oz|hrs?|mins?|mph|m|g|s))"
    r"(?:\s*\^\s*\{?[23]\}?)?$"
)
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?%?")
_DECIMAL = re.compile(r"[+-]?(?:\d{1,60}(?:\.\d{0,60})?|\.\d{1,60})(?:[eE][+-]?\d{1,2})?")
_RATIO = re.compile(r"([+-]?)(?:(\d{1,30})\s*)??(?:\\frac\{(-?\d{1,30})\}\{(-?\d{1,30})\}|(\d{1,30})\s*/\s*(\d{1,30}))")
_SHORT_FRACTION = re.compile(r"\\frac\s*(?:(\d)\s*(\d)|(\d)\s*\{(\d+)\}|\{(\d+)\}\s*(\d))")
_LEFT_SIDE = re.compile(r"[A-Za-z](?:_\{?\w+\}?)?(?:\([A-Za-z]\))?\s*=(?!=)\s*")
_EQUALS = re.compile(r"(?<![<>!:])=(?!=)")


def extract(answer: str) -> str:
    """The model's final answer, or "" when it gave none.

    The last non-empty box; else what follows the last "answer is", "answer:" or "####"; else the whole text when it is
    one expression and no prose; else the last number, with the formula it stands in.
    """
    text = re.sub(r"\*\*([^*\n]+)\*\*", r"\1", answer).strip()
    found = _last_box(text)
    if found:
        return found
    text = _EMPTY_BOX.sub("", text)
    marker = max((match.end() for match in _MARKER.finditer(text)), default=None)
    if marker is not None:
        line = next((line for line in text[marker:].split("\n") if line.strip()), "")
        found = _leading(line) or _answer_in(line)
    return found or _answer_in(text)


def normal(text: str) -> str:
    """One spelling of an answer: no math delimiters, spacing commands, units after a number, thousands commas."""
    text = _LATEX_UNIT.sub("", text.strip().translate(_UNICODE).replace(r"\%", "%").replace("{,}", ","))
    text = re.sub(r"(?<!\\)\\ |~", " ", _DROPPED.sub("", text))
    text = re.sub(r"\\[dt]frac", r"\\frac", text)
    text = _SHORT_FRACTION.sub(lambda m: "\\frac{{{}}}{{{}}}".format(*(part for part in m.groups() if part)), text)
    text = re.sub(r"\s+", " ", text).strip().rstrip(".").rstrip()
    whole = _TEXT_COMMAND.fullmatch(text)
    text = whole[1].strip() if whole else text
    text = _UNIT.sub("", re.sub(r"(?i)\s*(?:percent|per cent)$", "%", text))
    return text.replace(",", "") if _THOUSANDS.fullmatch(text) else text


def right_side(text: str) -> str:
    """What an equation ends in: "x = 1 + 2 = 3" gives "3". Lists of equations stay."""
    return text if "," in text or ";" in text else _EQUALS.split(text)[-1].strip()


def without_name(text: str) -> str:
    """A gold answer without the name it gives: "y = 2x + 1" gives "2x + 1"."""
    return _LEFT_SIDE.sub("", text, count=1) if _LEFT_SIDE.match(text) else text


def words_of(text: str) -> str:
    """An answer in words, spelled for comparison ("(C)" and "c" are one), or "" when it is mathematics."""
    text = re.sub(r"\s+", " ", _TEXT_COMMAND.sub(r" \1 ", text)).strip().strip(".")
    choice = re.fullmatch(r"\(?([A-Z])\)?", text)
    if choice:
        return choice[1].casefold()
    is_words = re.fullmatch(r"[A-Za-z][A-Za-z ,.'-]*", text) and _PROSE.search(_FUNCTIONS.sub("", text))
    return text.casefold() if is_words else ""


def base_of(text: str) -> str:
    """The base written as a subscript, "" when there is none: numerals in different bases are not compared."""
    found = re.fullmatch(r"[0-9A-Z]+_\{?(\d+)\}?", text)
    return found[1] if found else ""


def same_number(gold: str, answer: str) -> bool | None:
    """Whether two plain numbers (integer, decimal, ratio, mixed, percent) are equal; None when one is no such number.

    Integers must be equal; with a decimal in play, to six significant digits. A percent sign on one side only may mean
    either reading, since questions that ask "what percent" are answered both ways.
    """
    left, right = _number(gold.rstrip("%").rstrip()), _number(answer.rstrip("%").rstrip())
    if left is None or right is None:
        return None
    if gold.endswith("%") == answer.endswith("%"):
        return _close(left, right)
    percent, bare = (left, right) if gold.endswith("%") else (right, left)
    return _close(percent, bare) or _close(percent / 100, bare)


def _last_box(text: str) -> str:
    for match in list(_BOX.finditer(text))[: -_BOXES_TRIED - 1 : -1]:
        inside = _braced(text, match.end())
        if inside:
            return inside
    return ""


def _braced(text: str, start: int) -> str:
    """What stands in the braces that open at `start`; without braces the token there; "" when they never close."""
    if text[start : start + 1] != "{":
        token = re.compile(r"-?[\d.,/]*\d|[A-Za-z]").match(text, start)
        return token[0] if token else ""
    depth = 0
    for place in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, start):
        depth += {"{": 1, "}": -1}.get(place[0], 0)
        if depth == 0:
            return text[start + 1 : place.start()].strip()
    return ""


def _leading(line: str) -> str:
    """The number or formula right after "the answer is", unless the line goes on as an expression."""
    text = line.strip().rstrip(".").strip()
    if not _PROSE.search(_FUNCTIONS.sub(" ", text)):
        return ""
    leading = _SPAN.match(text) or re.match(rf"(?:{_NUMBER_IN_TEXT.pattern})(?=[\s,;.]|$)", text)
    return leading[0].strip() if leading else ""


def _answer_in(text: str) -> str:
    """The expression that a piece of text is, or else its last formula or number."""
    text = text.strip().rstrip(".").strip()
    if "\n" not in text and len(text) <= _LONGEST_LINE and not _PROSE.search(_FUNCTIONS.sub(" ", text)):
        return text
    numbers = list(_NUMBER_IN_TEXT.finditer(text))
    spans = list(_SPAN.finditer(text))
    if not numbers:
        return spans[-1][0] if spans else _short_words(text)
    return next((span[0] for span in spans if span.start() <= numbers[-1].start() < span.end()), numbers[-1][0].strip())


def _short_words(text: str) -> str:
    return text if len(text) <= 40 and "\n" not in text else ""


def _number(text: str) -> Fraction | None:
    if _DECIMAL.fullmatch(text):
        return Fraction(text)
    ratio = _RATIO.fullmatch(text)
    if ratio is None:
        return None
    sign, whole, *parts = ratio.groups()
    above, below = (int(part) for part in parts if part is not None)
    if below == 0:
        return None
    value = int(whole or 0) + Fraction(above, below)
    return -value if sign == "-" else value


def _close(left: Fraction, right: Fraction) -> bool:
    if left.denominator == right.denominator == 1:
        return left == right
    return abs(left - right) <= abs(left) / 1_000_000
