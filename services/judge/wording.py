"""One spelling for English prose, so that rules about what it says can be short: straight quotes, no contractions."""

import re

_QUOTES = str.maketrans(
    {**dict.fromkeys("‘’ʼ´", "'"), **dict.fromkeys("“”", '"'), **dict.fromkeys("\u00a0\u202f", " ")}
)
_CODE_BLOCK = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_MARKUP = re.compile(r"^[ \t]*(?:#{1,6}[ \t]+|>[ \t]*)+|[*_]{1,3}(?=\S)|(?<=\S)[*_]{1,3}", re.MULTILINE)
_SPEAKER = re.compile(r"^(?:assistant|answer|response|reply|ai|bot|model)\s*:\s*")
_QUOTED = re.compile(r'"[^"\n]*\s[^"\n]*"|\b(?:says?|said|replied|answered|wrote|reads): [^.!?\n]*')
_CONTRACTIONS = (
    (re.compile(r"\b(?:can't|cant|can not)\b"), "cannot"),
    (re.compile(r"\b(?:won't|wont)\b"), "will not"),
    (re.compile(r"\bain't\b"), "am not"),
    (re.compile(r"\b(do|does|did|is|are|was|were|would|could|should|must|have|has|had)n'?t\b"), r"\1 not"),
    (re.compile(r"\b(?:i'm|im)\b"), "i am"),
    (re.compile(r"'re\b"), " are"),
    (re.compile(r"'ve\b"), " have"),
    (re.compile(r"'ll\b"), " will"),
    (re.compile(r"\b(i|we|you|he|she|they)'d\b"), r"\1 would"),
    (re.compile(r"\b(it|that|there|here|this|what|let)'s\b"), r"\1 is"),
    (re.compile(r"\blet is\b"), "let us"),
)
CODE = "[code]"  # stands where a code block was


def plain(text: str) -> str:
    """Lower case, straight quotes, contractions written out, markup and speaker labels gone; lines are kept."""
    text = _MARKUP.sub("", _CODE_BLOCK.sub(f" {CODE} ", text.translate(_QUOTES)))
    text = _SPEAKER.sub("", _unwrapped(text.strip()).lower())
    for pattern, replacement in _CONTRACTIONS:
        text = pattern.sub(replacement, text)
    return re.sub(r"[ \t]+", " ", text).strip()


def sentences(text: str) -> list[str]:
    """Sentences and lines, in order, none of them blank."""
    return [piece.strip() for piece in re.split(r"(?<=[.!?])[\")\]]*\s+|\n+", text) if piece.strip()]


def unquoted(text: str) -> str:
    """Without what stands in double quotes on one line, or after "said:": words that are shown, not said."""
    return _QUOTED.sub('""', text)


def words(text: str) -> int:
    return len(text.split())


def _unwrapped(text: str) -> str:
    """A whole answer in quotation marks is the answer."""
    inner = text[1:-1]
    return inner if len(text) > 2 and text[0] == text[-1] == '"' and '"' not in inner else text
