"""Markers from folders, so `-m smoke` and tests/smoke mean the same; no clock in properties."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with the folder it lies in."""
    for item in items:
        item.add_marker(item.path.relative_to(HERE).parts[0])


# How long an example takes says how busy the machine is, and nothing of the code.
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")
