"""Named places at which a build may die, so that tests can make it die exactly there."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = (
    "store.partial",
    "store.commit",
    "assemble.staged",
    "assemble.component",
    "assemble.merged",
    "assemble.manifest",
    "assemble.aside",
    "assemble.published",
    "archive.written",
)

_listeners: list[Callable[[str], None]] = []


def listen(listener: Callable[[str], None]) -> None:
    """Call `listener` with the name of every checkpoint that is reached from now on."""
    _listeners.append(listener)


def reach(name: str) -> None:
    """Say that the build has come to the checkpoint `name`."""
    for listener in _listeners:
        listener(name)
