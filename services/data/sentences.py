"""Sentences of a text as character offsets, by rules (syntok): abbreviations and decimals do not end one."""

from typing import NamedTuple

from syntok import segmenter


class Sentence(NamedTuple):
    start: int
    end: int  # without the blanks that follow


def sentences(text: str) -> list[Sentence]:
    """In order, without overlap; between two of them is nothing but blanks. A blank line always ends one."""
    return [
        Sentence(tokens[0].offset, tokens[-1].offset + len(tokens[-1].value))
        for paragraph in segmenter.analyze(text)
        for tokens in map(list, paragraph)
    ]
