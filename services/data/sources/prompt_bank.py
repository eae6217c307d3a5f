"""Behaviours x jailbreak templates (arXiv 2505.15404, section 3): requests put into templates, balanced, drawn by seed.

`path` has the behaviours, option `template_path` the templates; both are held in memory. A row is its behaviour's, with
`prompt` (the template with the request in it), `request` (as it was), an id made of both, and file and id of each as
`behaviour` and `template`, which a builder keeps with `tags: "behaviour, template"`.
"""

import hashlib
import json
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import SourceSpec
from lrm_safety.settings import Settings
from services.data import source
from services.data.source import Numbered, Row, Source

OPTIONS = {
    "template_path": "file of templates",
    "template_field": "its field with the template; default text",
    "placeholder": "what the request replaces in it; default [INSERT PROMPT HERE]",
    "source": "how behaviours are read; default: by the file's ending",
    "behaviour_field": "their field with the request; default prompt",
    "where": "those that take part, by a field of theirs, such as FunctionalCategory=standard; default all",
    "behaviours": "how many behaviours take part, drawn by seed; default all",
    "templates": "how many templates take part, drawn by seed; default all",
    "count": "how many pairs are drawn; default all",
    "seed": "of the draws; default 0",
}
NUMBERS = ("behaviours", "templates", "count", "seed")
DEFAULTS = {"template_field": "text", "placeholder": "[INSERT PROMPT HERE]", "behaviour_field": "prompt"}


def open_source(spec: SourceSpec, settings: Settings) -> Source:
    options = {**DEFAULTS, **spec.options}
    if not options.get("template_path"):
        raise InvalidInput("source prompt_bank: option `template_path` is missing; expected a file of templates")
    numbers = {name: _number(name, options.get(name, "0")) for name in NUMBERS}
    behaviours = _only(_open(spec.path, options.get("source", ""), settings), options.get("where", ""))
    templates = _open(options["template_path"], "", settings)
    identity = json.dumps([behaviours.digest, templates.digest, sorted(options.items())])
    bank = _Bank(behaviours, templates, options, numbers)
    name = f"{behaviours.name} x {templates.name}"
    return Source(name, hashlib.sha256(identity.encode()).hexdigest(), behaviours.licence, bank.read)


@dataclass(frozen=True)
class _Bank:
    behaviours: Source
    templates: Source
    options: Mapping[str, str]
    numbers: Mapping[str, int]

    def read(self) -> Numbered:
        chance = random.Random(self.numbers["seed"])
        behaviours = self._drawn(self.behaviours, "behaviours", chance)
        templates = self._drawn(self.templates, "templates", chance)
        pairs = balanced_pairs(len(behaviours), len(templates), chance)
        for number, (first, second) in enumerate(pairs, start=1):
            if number > (self.numbers["count"] or number):
                return
            yield number, self._row(behaviours[first], templates[second])

    def _drawn(self, of: Source, name: str, chance: random.Random) -> list[Row]:
        """In an order of chance; only the first `numbers[name]` of them. Raises InvalidInput when there are fewer."""
        rows = list(source.read_rows(of, {}))
        count = self.numbers[name] or len(rows)
        if not 0 < count <= len(rows):
            raise InvalidInput(f"source prompt_bank: {of.name} has {len(rows)} rows; expected {max(1, count)} {name}")
        return chance.sample(rows, count)

    def _row(self, behaviour: Row, template: Row) -> dict[str, object]:
        request = behaviour.text(self.options["behaviour_field"]).strip()
        framing = template.text(self.options["template_field"])
        placeholder = self.options["placeholder"]
        if placeholder not in framing:
            raise InvalidInput(f"{template.place}: the placeholder {placeholder!r} is not in it; see `placeholder`")
        names = [row.optional("id") or str(row.number) for row in (behaviour, template)]
        return {
            **behaviour.fields,
            "id": "+".join(names),
            "prompt": framing.replace(placeholder, request),
            "request": request,
            "behaviour": f"{behaviour.source}#{names[0]}",
            "template": f"{template.source}#{names[1]}",
        }


def balanced_pairs(first: int, second: int, chance: random.Random) -> Iterator[tuple[int, int]]:
    """Every pair of range(first) x range(second) once, in an order of which any beginning is balanced.

    However many are taken, each index of either side comes as often as any other, give or take one: both sides go round
    in step, shifted against each other, in an order of chance, whenever they would meet as before.
    """
    rounds = math.lcm(first, second)
    shifts = first * second // rounds
    for shift in chance.sample(range(shifts), shifts):
        for step in range(rounds):
            yield step % first, (step + shift) % second


def _open(path: str, reader: str, settings: Settings) -> Source:
    reader = reader or source.format_of(path)
    if not reader:
        raise InvalidInput(
            f"source prompt_bank: {path!r} ends in no known format; expected .jsonl, .json, .csv, .parquet"
        )
    return source.open_source(SourceSpec(source=reader, path=path), settings)


def _only(of: Source, where: str) -> Source:
    """The rows of it that have a value in a field, `field=value`; without `where` all. Raises InvalidInput."""
    field, equals, value = where.partition("=")
    if not where:
        return of
    if not (field and equals):
        raise InvalidInput(f"source prompt_bank: where is {where!r}; expected field=value")

    def read() -> Numbered:
        for number, found in of.read():
            if not isinstance(found, dict) or Row(of.name, number, found).text(field) == value:
                yield number, found

    return replace(of, read=read)


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise InvalidInput(f"source prompt_bank: {name} is {text!r}; expected a whole number")
    return int(text)
