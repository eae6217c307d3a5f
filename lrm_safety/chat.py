"""Renders a conversation as text, the same way for training and for serving, and never loses the thinking.

The only template code in the tree; templates.yaml has the field's families. Rendered text already holds BOS where the
model wants one: tokenise it with add_special_tokens=False.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import jinja2
import yaml
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import Example, Message

THINK_OPEN = "<think>"
THINK_CLOSE = "</think>"
THINKING_MODES = ("keep", "empty", "none")
S1 = ("<|im_start|>think", "<|im_start|>answer")  # in the place of the tags
S1_ANSWER = "Answer:"  # an answer says that it is one (Safety Tax's rendering of all its sets)
S1_SAYS_SO = "{#- thinking: s1 -#}"
SPECIAL_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")
SENTINEL = "SENTINELOFTHEANSWER"


@dataclass(frozen=True)
class ChatTemplate:
    """A model's chat template with its special tokens."""

    source: str  # Jinja
    tokens: tuple[tuple[str, str], ...]  # special tokens by name, e.g. ("bos_token", "<s>")
    now: Callable[[], datetime] = datetime.now  # some templates print the date
    markers: tuple[str, ...] = ()  # texts that have to be single tokens; known for templates.yaml's

    @classmethod
    def choose(cls, folder: Path, name: str = "") -> "ChatTemplate":
        """A family's template by its name in templates.yaml; without one the folder's own. Raises InvalidInput."""
        if not name:
            return cls.from_folder(folder)
        known = families()
        if name not in known:
            raise InvalidInput(f"no chat template is named {name!r}; there are: {', '.join(known)}; empty = its own")
        family = known[name]
        return cls(family["source"], tuple(family["tokens"].items()), markers=tuple(family["markers"]))

    @classmethod
    def from_folder(cls, folder: Path) -> "ChatTemplate":
        """The template of a Hugging Face folder. Raises InvalidInput when there is none."""
        config = _read_json(folder / "tokenizer_config.json")
        config = {**_read_json(folder / "special_tokens_map.json"), **config}
        file = folder / "chat_template.jinja"
        return cls.from_files(config, file.read_text(encoding="utf-8") if file.is_file() else None)

    @classmethod
    def from_files(cls, tokenizer_config: dict[str, Any], template: str | None) -> "ChatTemplate":
        """From the parsed tokenizer_config.json and the text of chat_template.jinja, if the model has one."""
        source = template or _embedded_template(tokenizer_config)
        if not source:
            raise InvalidInput(
                "the checkpoint has no chat template (chat_template.jinja, or chat_template in tokenizer_config.json); "
                "it looks like a pre-trained model: use its instruct version or add a template to the folder"
            )
        tokens = {name: _token_text(tokenizer_config.get(name)) for name in SPECIAL_TOKENS}
        return cls(source, tuple((name, text) for name, text in tokens.items() if text))

    def render(self, messages: Sequence[Message], *, prefill: str = "", add_generation_prompt: bool = True) -> str:
        """The conversation as the model reads it. `prefill` opens the assistant's turn and is left open.

        Raises InvalidInput when the template refuses the conversation (e.g. a role it does not know).
        """
        plain = [{"role": m.role, "content": m.content} for m in messages]
        text = self._jinja(plain, add_generation_prompt or bool(prefill))
        return text + _without_overlap(text, prefill)

    def target(self, prompt: Sequence[Message], response: str) -> tuple[str, str]:
        """(text up to the assistant's content, the content with its end of turn): what is read, and what is trained.

        Thinking comes in <think> tags, and leaves in the template's own.

        The response is appended to the generation prompt, not rendered as an assistant message: stock templates of
        distilled reasoning models cut assistant messages at </think>. Where the generation prompt opens the thinking
        already, the response's own <think> is left out, and a response without thinking closes it first.
        """
        before = self.render(prompt)
        if self.opens_thinking and not response.startswith(THINK_OPEN):
            response = f"{THINK_OPEN}\n\n{THINK_CLOSE}\n\n{response}"
        return before, _without_overlap(before, self._spelled(response)) + self.end_of_turn

    @cached_property
    def tags(self) -> tuple[str, str]:
        """What opens the thinking and what ends it."""
        return S1 if S1_SAYS_SO in self.source else (THINK_OPEN, THINK_CLOSE)

    @cached_property
    def opens_thinking(self) -> bool:
        """The generation prompt ends in <think>: the model starts inside its thinking."""
        return self.render([Message(role="user", content=SENTINEL)]).rstrip().endswith(THINK_OPEN)

    @cached_property
    def end_of_turn(self) -> str:
        """What follows an assistant's content in the template, e.g. <|im_end|>; the EOS token where nothing does."""
        turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": SENTINEL}]
        _, found, after = self._jinja(turns, False).rpartition(SENTINEL)
        end = after.rstrip() if found else ""
        end = end or dict(self.tokens).get("eos_token", "")
        if not end:
            raise InvalidInput("the chat template never ends an assistant's turn and there is no eos_token; add one")
        return end

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps([self.source, self.tokens]).encode()).hexdigest()

    @cached_property
    def _compiled(self) -> jinja2.Template:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda form: self.now().strftime(form)
        try:
            return environment.from_string(self.source)
        except jinja2.TemplateError as error:
            raise InvalidInput(f"the chat template does not parse: {error}; mend the checkpoint's template") from error

    def _spelled(self, response: str) -> str:
        opens, closes = self.tags
        thinking, closed, answer = response.partition(THINK_CLOSE)
        if opens == THINK_OPEN or not closed or not thinking.startswith(THINK_OPEN):
            return response
        answer = answer.lstrip()
        said = answer if S1_ANSWER in answer else f"{S1_ANSWER} {answer}"
        return f"{opens}{thinking.removeprefix(THINK_OPEN)}{closes}\n{said}"

    def _jinja(self, messages: list[dict[str, str]], add_generation_prompt: bool) -> str:
        values = {**dict(self.tokens), "messages": messages, "add_generation_prompt": add_generation_prompt}
        try:
            return self._compiled.render(**values, tools=None, documents=None)
        except (jinja2.TemplateError, TypeError, ArithmeticError, LookupError) as error:
            roles = ", ".join(m["role"] for m in messages)
            problem = error if isinstance(error, _Refused) else type(error).__name__
            raise InvalidInput(f"the chat template refuses a conversation of roles ({roles}): {problem}") from error


@cache
def families() -> dict[str, Any]:
    """templates.yaml: source, tokens and markers of each family's template."""
    found: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "templates.yaml").read_text(encoding="utf-8"))
    return found


def target_text(example: Example, thinking: str) -> str:
    """What a model is trained to write for an example. `thinking`: keep | empty | none."""
    if thinking == "keep":
        return f"{THINK_OPEN}\n{example.thinking}\n{THINK_CLOSE}\n\n{example.answer}"
    if thinking == "empty":
        return f"{THINK_OPEN}\n\n{THINK_CLOSE}\n\n{example.answer}"
    if thinking == "none":
        return example.answer
    raise InvalidInput(f"thinking is {thinking!r}; expected one of: {', '.join(THINKING_MODES)}")


class _Refused(jinja2.TemplateError):
    pass


class _Generation(Extension):
    """{% generation %}…{% endgeneration %} marks the assistant's words in some templates; here it is transparent."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _without_overlap(before: str, continuation: str) -> str:
    """The continuation without the <think> that the generation prompt has written already."""
    _, opened, blank = before.rpartition(THINK_OPEN)
    if not opened or blank.strip() or not continuation.startswith(THINK_OPEN):
        return continuation
    rest = continuation.removeprefix(THINK_OPEN)
    return rest.removeprefix(blank) if rest.startswith(blank) else rest.lstrip("\n")


def _embedded_template(config: dict[str, Any]) -> str:
    template = config.get("chat_template") or ""
    if isinstance(template, list):  # several, by name
        by_name = {entry["name"]: entry["template"] for entry in template}
        template = by_name.get("default", "")
    return str(template)


def _token_text(token: Any) -> str:
    """A special token is a string, or an object with its text under `content`."""
    return str(token["content"]) if isinstance(token, dict) else str(token or "")


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise InvalidInput(f"{path} is not JSON: {error}; import the checkpoint again") from error


def _tojson(value: Any, indent: int | None = None, ensure_ascii: bool = False) -> str:
    """Plain JSON: Jinja's own filter escapes HTML characters."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def _refuse(message: str) -> None:
    raise _Refused(message)
