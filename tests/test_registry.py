"""The folder is the registry: listed without importing, one broken plugin harms no other."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lrm_safety import registry
from lrm_safety.errors import InvalidInput, NotFound


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    package = tmp_path / f"plugins_{tmp_path.name.replace('-', '_')}"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "good.py").write_text('"""Does good.\n\nMore."""\nANSWER = 42\n')
    (package / "needy.py").write_text('"""Needs what is not there."""\nimport not_there_at_all\n')
    (package / "broken.py").write_text("def (")
    (package / "_private.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    return package.name


def test_listing_imports_nothing(folder: str) -> None:
    assert {plugin.name: plugin.summary for plugin in registry.describe(folder)} == {
        "broken": "broken: line 1 of broken.py does not parse",
        "good": "Does good.",
        "needy": "Needs what is not there.",
    }
    assert f"{folder}.good" not in sys.modules


def test_loading_one(folder: str) -> None:
    assert registry.load(folder, "good").ANSWER == 42
    with pytest.raises(InvalidInput, match="lrm doctor"):
        registry.load(folder, "needy")
    with pytest.raises(NotFound, match="there are: broken, good, needy"):
        registry.load(folder, "nothing")


def test_many_threads_may_ask_at_once() -> None:
    folders = ("services.judge.judges", "services.bench.benchmarks", "services.data.builders", "services.bench.attacks")

    def ask(number: int) -> int:
        registry._summary.cache_clear()
        return len(registry.describe(folders[number % len(folders)]))

    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(ask, range(160)))
