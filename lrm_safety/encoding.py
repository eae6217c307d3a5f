"""An example as token ids with the border between what is read and what is trained, and the proof that it is right.

Training encodes with it, and `lrm data inspect --tokens` shows what it made.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tokenizers import Encoding, Tokenizer

from lrm_safety.chat import THINK_OPEN, ChatTemplate, target_text
from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import Example, user

_BLANK = "▁"  # SentencePiece's


@dataclass(frozen=True)
class Encoded:
    """One example: ids[start:] are the assistant's tokens with the end of its turn, and are trained."""

    id: str
    ids: list[int]
    start: int
    spans: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # of Example.spans: tokens [first, end)
    label: str = ""  # of Example.tags: safety


class Encoder:
    """Renders and tokenises examples the way serving does."""

    def __init__(self, folder: Path, thinking: str, template: str = "") -> None:
        self._chat, self._thinking = ChatTemplate.choose(folder, template), thinking
        self._tokenizer = read_tokenizer(folder)
        self._pad = pad_token(folder)

    def encode(self, example: Example) -> Encoded:
        """Raises InvalidInput when what would be trained is not what was meant."""
        name = f"example {example.id or '(without id)'}"
        if not example.answer.strip():
            raise InvalidInput(
                f"{name} has no answer, so nothing would be trained but the end of the turn; build the dataset with a "
                "builder that writes or reads answers: `lrm list builders`"
            )
        before, target = self._chat.target([user(example.prompt)], target_text(example, self._thinking))
        ids, start, ends = self._ids(before, target)
        at = target.find(example.thinking) if self._thinking == "keep" else -1
        shift = at - len(THINK_OPEN) - 1  # the template may spell the opening otherwise, or its prompt have it already
        spans = {s.name: _tokens(ends, start, s.start + shift, s.end + shift) for s in example.spans if at >= 0}
        encoded = Encoded(example.id, ids, start, spans, example.tags.get("safety", ""))
        self._check(encoded, name)
        return encoded

    def trained_text(self, encoded: Encoded) -> str:
        """What the trained tokens say, special tokens included."""
        return str(self._tokenizer.decode(encoded.ids[encoded.start :], skip_special_tokens=False))

    def texts(self, encoded: Encoded) -> list[str]:
        """Each token alone; one that is only a part of a character is written as the vocabulary writes it."""
        return [self._text(token) for token in encoded.ids]

    def _text(self, token: int) -> str:
        name, text = (
            self._tokenizer.id_to_token(token) or "",
            self._tokenizer.decode([token], skip_special_tokens=False),
        )
        if name.startswith(_BLANK):
            return name.replace(_BLANK, " ")  # decoding would cut the blank off
        return name if "\ufffd" in text or not text else str(text)

    def _ids(self, before: str, target: str) -> tuple[list[int], int, list[int]]:
        """(ids, where the target begins, where in the target each of its tokens ends).

        Tokenised as one text, unless a token then spans the border: serving has the prompt's tokens alone.
        """
        prompt: list[int] = self._tokenizer.encode(before, add_special_tokens=False).ids
        whole: Encoding = self._tokenizer.encode(before + target, add_special_tokens=False)
        start = len(prompt)
        if whole.ids[:start] == prompt:
            return whole.ids, start, [end - len(before) for _, end in whole.offsets[start:]]
        alone: Encoding = self._tokenizer.encode(target, add_special_tokens=False)
        return prompt + alone.ids, start, [end for _, end in alone.offsets]

    def _check(self, encoded: Encoded, name: str) -> None:
        trained = self.trained_text(encoded)
        if not trained.endswith(self._chat.end_of_turn):
            raise InvalidInput(
                f"{name}: the end of turn {self._chat.end_of_turn!r} is not among the trained tokens, so the model "
                "would never learn to stop; check the tokenizer's special tokens"
            )
        opens, closes = self._chat.tags
        opened = self._chat.opens_thinking or opens in trained
        if self._thinking == "keep" and not (opened and closes in trained):
            raise InvalidInput(
                f"{name}: thinking is 'keep', but {opens}…{closes} is missing from the trained tokens; "
                "the tokenizer cannot write the tags: use another base or thinking: none"
            )
        pad = self._tokenizer.token_to_id(self._pad) if self._pad else None
        if pad in encoded.ids[encoded.start :] and self._pad not in self._chat.end_of_turn:
            raise InvalidInput(f"{name}: the padding token {self._pad!r} would be trained; remove it from the text")


def _tokens(ends: list[int], start: int, first: int, end: int) -> tuple[int, int]:
    """Tokens [first, end) of the example for characters [first, end) of its target: each belongs to its last one."""
    inside = [at for at, last in enumerate(ends, start=start) if first < last <= end]
    return (inside[0], inside[-1] + 1) if inside else (start, start)


def read_tokenizer(folder: Path) -> Tokenizer:
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise InvalidInput("the checkpoint has no tokenizer.json; import it again, the import writes one")
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def pad_token(folder: Path) -> str:
    """Text of the padding token; empty when the tokenizer has none."""
    file = folder / "tokenizer_config.json"
    token = json.loads(file.read_text(encoding="utf-8")).get("pad_token") if file.is_file() else None
    return str(token["content"] if isinstance(token, dict) else token or "")
