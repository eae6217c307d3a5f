"""The request is put into a jailbreak template: one of a few generic framings of ours, or any file of templates.

A file is a CSV with the fields `id` (optional) and `text`, such as gptfuzz/jailbreak_templates.csv (GPTFuzzer,
arXiv 2309.10253). Each sample draws its template by seed, the same for every model; the tag attack.template names it.
"""

from pathlib import Path

from lrm_safety.errors import InvalidInput
from lrm_safety.nouns import Message, Prompt, Sample, question
from services.bench.attack import Apply, AttackContext, Attempt
from services.bench.rows import read_rows

OPTIONS = {
    "path": "CSV file of templates; default: those in attacks/template.txt",
    "placeholder": "what the request replaces; default [INSERT PROMPT HERE]",
    "id": "use this one template for every sample",
}
PLACEHOLDER = "[INSERT PROMPT HERE]"


def prepare(context: AttackContext) -> Apply:
    placeholder = context.options.get("placeholder") or PLACEHOLDER
    file = context.file("path")
    templates = _from_csv(file) if file else _own()
    _check(templates, placeholder, str(file or "template.txt"))
    names = sorted(_wanted(templates, context.options.get("id", "")))

    def apply(sample: Sample) -> Attempt:
        name = context.random(sample).choice(names)
        wrapped = templates[name].replace(placeholder, question(sample))
        return Attempt(Prompt(messages=_with_question(sample, wrapped)), {"attack.template": name})

    return apply


def _own() -> dict[str, str]:
    """The paragraphs of template.txt: a name in the first line, the template below it."""
    paragraphs = Path(__file__).with_suffix(".txt").read_text(encoding="utf-8").strip().split("\n\n")
    return dict(paragraph.split("\n", 1) for paragraph in paragraphs)


def _from_csv(path: Path) -> dict[str, str]:
    return {row.optional("id") or str(number): row.text("text") for number, row in enumerate(read_rows(path))}


def _check(templates: dict[str, str], placeholder: str, where: str) -> None:
    without = [name for name, text in templates.items() if placeholder not in text]
    if without:
        raise InvalidInput(
            f"{where}: template {without[0]!r} lacks the placeholder {placeholder!r}; see option placeholder"
        )


def _wanted(templates: dict[str, str], name: str) -> list[str]:
    if name and name not in templates:
        raise InvalidInput(f"attack template: there is no template {name!r}; there are {', '.join(sorted(templates))}")
    return [name] if name else list(templates)


def _with_question(sample: Sample, text: str) -> list[Message]:
    """The conversation with its last user turn replaced."""
    last = max((n for n, message in enumerate(sample.messages) if message.role == "user"), default=-1)
    return [Message(role=m.role, content=text if n == last else m.content) for n, m in enumerate(sample.messages)]
