"""How commands speak: tables and JSON on stdout, everything else on stderr."""

import json
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer
from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table

from lrm_safety import jsonl

console = Console()
errors = Console(stderr=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def print_json(value: Message | Iterable[Message] | dict[str, Any]) -> None:
    """A message, a list of messages, or a plain mapping, as JSON on stdout."""
    tree: Any = value
    if isinstance(value, Message):
        tree = jsonl.to_dict(value)
    elif not isinstance(value, dict):
        tree = [jsonl.to_dict(each) for each in value]
    console.out(json.dumps(tree, ensure_ascii=False, indent=2), highlight=False)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], empty: str) -> None:
    """A plain table; `empty` says what to do when there is nothing to show."""
    shown = list(rows)
    if not shown:
        errors.print(empty)
        return
    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in shown:
        table.add_row(*row)
    console.print(table)
