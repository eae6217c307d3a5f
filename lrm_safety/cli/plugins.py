"""lrm list: the plugins there are. Reads names and docstrings from source; needs no service."""

from typing import Annotated

import typer

from lrm_safety import registry
from lrm_safety.cli._output import AsJson, print_json, print_table
from lrm_safety.errors import NotFound

FOLDERS = {
    "judges": "services.judge.judges",
    "attacks": "services.bench.attacks",
    "benchmarks": "services.bench.benchmarks",
    "builders": "services.data.builders",
    "sources": "services.data.sources",
    "filters": "services.data.filters",
    "selectors": "services.data.selectors",
    "methods": "services.trainer.methods",
    "engines": "services.inference.engines",
    "exports": "lrm_safety.exports",
    "imports": "lrm_safety.imports",
    "trackers": "lrm_safety.trackers",
}


def add_to(app: typer.Typer) -> None:
    app.command("list", epilog="Example: lrm list judges")(list_)


def list_(kind: Annotated[str, typer.Argument(help=", ".join(FOLDERS))], json: AsJson = False) -> None:
    """List plugins of a kind, with the first line of their docstring."""
    if kind not in FOLDERS:
        raise NotFound(f"no plugins are called {kind!r}; there are: {', '.join(FOLDERS)}")
    plugins = registry.describe(FOLDERS[kind])
    if json:
        print_json(plugins)
    else:
        print_table((kind, "what it is"), [(plugin.name, plugin.summary) for plugin in plugins], f"no {kind}")
