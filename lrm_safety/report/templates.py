"""Jinja over lrm_safety/pages: everything escaped, and every name cleaned of unseen characters before that."""

import json
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lrm_safety.report.wording import plain


def render(page: str, **values: object) -> str:
    return _environment().get_template(page).render(**values)


def read_page(name: str) -> Markup:
    """A file of ours as it is: a style or a script."""
    return Markup((files("lrm_safety") / "pages" / name).read_text(encoding="utf-8"))


def pretty(value: dict[str, Any]) -> Markup:
    """Indented JSON as escaped text, its line breaks kept."""
    lines = json.dumps(value, indent=2, ensure_ascii=False).split("\n")
    return Markup("\n").join(plain(line) for line in lines)


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("lrm_safety", "pages"),
        autoescape=True,
        finalize=_clean,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _clean(value: object) -> object:
    return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value
