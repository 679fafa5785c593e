"""Markers from folders, so `-m smoke` and tests/smoke mean the same; no clock in properties.

Without torch, tests that need it are skipped, and the summary says so.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from tests.support.lacking import lack

if TYPE_CHECKING:
    from collections.abc import Iterable

HERE = Path(__file__).parent
# The engine's container tests share one engine and the port that the documents name.
ENGINE = "tests/integration/"
NO_ENGINE = "tests/integration/test_electron"
# Fixtures that load a model in sentence-transformers beside our own engine.
TWINS = {"twin", "twins"}
NO_TORCH = "torch is not installed; `python3 build test` has it"


class ByGroup(LoadScopeScheduling):  # type: ignore[misc]
    """Gives every process whole groups: the tests of one file, or all that need the engine.

    They share fixtures that take long. xdist's own --dist=loadgroup writes a test's group into its
    id, which pytest 9.2 no longer lets it do.
    """

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)


def group(nodeid: str) -> str:
    """Return the name of the group that a test belongs to."""
    if nodeid.startswith(ENGINE) and not nodeid.startswith(NO_ENGINE):
        return ENGINE
    return nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByGroup | None:
    """Return our scheduler for --dist=loadgroup, None for every other."""
    return ByGroup(config, log) if config.getvalue("dist") == "loadgroup" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with the folder it lies in, and put the longest group first.

    Begun last, it would keep one process busy while the others wait.
    """
    for item in items:
        item.add_marker(item.path.relative_to(HERE).parts[0])
        if needs_torch(getattr(item, "fixturenames", ())):
            item.add_marker("torch")
    items.sort(key=lambda item: group(item.nodeid) != ENGINE)


def needs_torch(fixtures: Iterable[str]) -> bool:
    """Return whether a test with these fixtures needs torch."""
    return not TWINS.isdisjoint(fixtures)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs torch where there is none; fail where everything has to be there."""
    if item.get_closest_marker("torch") and importlib.util.find_spec("torch") is None:
        lack(NO_TORCH)


# How long an example takes says how busy the machine is, and nothing of the code.
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")
