"""The words of a text and its runs of n words, as the filters compare them: lower case, no punctuation."""

import hashlib
import re

Run = tuple[str, ...]
_WORD = re.compile(r"\w+(?:['’]\w+)*")


def words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def runs(text: str, n: int) -> set[Run]:
    """Every run of n words; of a shorter text the text itself; of a text without words nothing."""
    found = words(text)
    return {tuple(found[start : start + n]) for start in range(max(1, len(found) - n + 1))} - {()}


def hashed(text: str) -> int:
    """64 bits, the same on every machine: two of a million texts share them once in 37 million times."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
