"""The proof, made once before a training, that a checkpoint's chat template and tokenizer say what they should."""

import json
from pathlib import Path

from tokenizers import Tokenizer

from lrm_safety.chat import THINK_CLOSE, THINK_OPEN, ChatTemplate
from lrm_safety.encoding import read_tokenizer
from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import user

QUESTION, THOUGHT, ANSWER = "What is two plus three?", "Two and three are five.", "It is five."


def prove(folder: Path, thinking: str, template: str = "") -> None:
    """Renders one conversation with the folder's template, or a family's, and tokenises it.

    Raises InvalidInput unless the beginning of text stands once and first, the family's markers are single tokens, the
    question is only read, the thinking stands between its tags in what is trained, and the end of turn is a token at
    which generation stops.
    """
    chat, tokenizer = ChatTemplate.choose(folder, template), read_tokenizer(folder)
    for marker in chat.markers:
        if tokenizer.token_to_id(marker) is None:
            raise InvalidInput(
                f"template {template!r} needs {marker!r} as a single token, which this tokenizer does not have: the "
                "template is foreign to the model; use its own (leave training.template out)"
            )
    response = f"{THINK_OPEN}\n{THOUGHT}\n{THINK_CLOSE}\n\n{ANSWER}" if thinking == "keep" else ANSWER
    before, target = chat.target([user(QUESTION)], response)
    _check_thinking(chat, thinking, before, target)
    _check_beginning(chat, tokenizer, before)
    _check_end(chat, tokenizer, folder)


def _check_thinking(chat: ChatTemplate, thinking: str, before: str, target: str) -> None:
    if QUESTION not in before or QUESTION in target or ANSWER in before or ANSWER not in target:
        raise InvalidInput("the chat template loses the question or the answer, or trains the question; mend it")
    opens, closes = chat.tags
    opened, _, rest = (before + target).partition(opens)
    thought, closed, answer = rest.partition(closes)
    if thinking == "keep" and (QUESTION not in opened or not closed or THOUGHT not in thought or ANSWER not in answer):
        raise InvalidInput(f"the chat template loses the thinking, which belongs between {opens} and {closes}; mend it")


def _check_beginning(chat: ChatTemplate, tokenizer: Tokenizer, before: str) -> None:
    """What the tokenizer puts before every text, the template has to write: rendered text is tokenised as it is."""
    ids = tokenizer.encode(before, add_special_tokens=False).ids
    plain, whole = (tokenizer.encode(QUESTION, add_special_tokens=is_whole).ids for is_whole in (False, True))
    wanted = whole[: len(whole) - len(plain)] if whole[-len(plain) :] == plain else []
    if ids[: len(wanted)] != wanted:
        raise InvalidInput("the model reads a beginning of text before every prompt and the chat template writes none")
    begins = tokenizer.token_to_id(dict(chat.tokens).get("bos_token", ""))
    if begins is not None and ids[:2] == [begins, begins]:
        raise InvalidInput("the chat template writes the beginning of text twice; once is what the model knows")


def _check_end(chat: ChatTemplate, tokenizer: Tokenizer, folder: Path) -> None:
    ids = tokenizer.encode(chat.end_of_turn, add_special_tokens=False).ids
    file = folder / "generation_config.json"
    stops = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id") if file.is_file() else None
    known = [stops] if isinstance(stops, int) else list(stops or [])
    if known and not set(ids) & set(known):
        raise InvalidInput(
            f"generation stops at the tokens {known} (generation_config.json), and the end of turn "
            f"{chat.end_of_turn!r} is none of them: the model would never stop; mend eos_token_id or the template"
        )
