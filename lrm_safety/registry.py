"""A folder is the registry: one file a plugin, found by its stem.

    describe("services.judge.judges")        names and first docstring lines, read from source: imports no plugin
    load("services.judge.judges", "refusal") imports that one module

Installed packages add plugins through the entry-point group named like the folder.
"""

import ast
import importlib
import importlib.util
import threading
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from lrm_safety.errors import InvalidInput, NotFound
from lrm_safety.nouns import Plugin

_PARSING = threading.Lock()  # CPython 3.11 counts the depth of all threads' syntax trees together, and stumbles


def describe(folder: str) -> list[Plugin]:
    """Every plugin of a folder, by name. A broken one is listed with what is wrong with it."""
    found = {path.stem: _summary(path) for path in _paths(folder)}
    found |= {point.name: f"from {point.value}" for point in _installed(folder)}
    return [Plugin(name=name, summary=found[name]) for name in sorted(found)]


def load(folder: str, name: str) -> ModuleType:
    """The plugin's module. Raises NotFound with the names there are, InvalidInput when its import fails."""
    names = sorted({path.stem for path in _paths(folder)} | {point.name for point in _installed(folder)})
    kind = folder.rsplit(".", 1)[-1]
    if name not in names:
        raise NotFound(f"no {kind.removesuffix('s')} is named {name!r}; there are: {', '.join(names)}")
    target = next((point.value for point in _installed(folder) if point.name == name), f"{folder}.{name}")
    try:
        return importlib.import_module(target)
    except ImportError as error:
        raise InvalidInput(f"{kind}/{name} cannot be imported: {error}; `lrm doctor` says what is missing") from error


@cache
def _paths(folder: str) -> tuple[Path, ...]:
    spec = importlib.util.find_spec(folder)
    if spec is None or not spec.submodule_search_locations:
        raise NotFound(f"there is no plugin folder {folder}")
    root = Path(spec.submodule_search_locations[0])
    return tuple(sorted(path for path in root.glob("*.py") if not path.stem.startswith("_")))


def _installed(folder: str) -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=folder))


@cache
def _summary(path: Path) -> str:
    try:
        with _PARSING:
            text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    except SyntaxError as error:
        return f"broken: line {error.lineno} of {path.name} does not parse"
    return text.split("\n", 1)[0]
