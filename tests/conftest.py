"""Markers from folders, a clean home for every run, and the reasons of skips at the end."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with the folder it lies in."""
    for item in items:
        folder = Path(item.fspath).relative_to(HERE).parts[0]
        item.add_marker(folder)
