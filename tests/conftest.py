"""Markers from folders, so that `-m smoke` and tests/smoke mean the same."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with the folder it lies in."""
    for item in items:
        item.add_marker(item.path.relative_to(HERE).parts[0])
