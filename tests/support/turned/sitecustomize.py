"""Put on PYTHONPATH, this makes every look into a folder show its names in the opposite order."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LISTDIR = os.listdir
SCANDIR = os.scandir


class Turned:
    """What os.scandir returns, the other way round."""

    def __init__(self, path: Any = ".") -> None:
        """Read all of `path` at once."""
        with SCANDIR(path) as found:
            self._entries = iter(sorted(found, key=lambda entry: entry.name, reverse=True))

    def __iter__(self) -> Iterator[os.DirEntry[Any]]:
        """Return the entries."""
        return self._entries

    def __next__(self) -> os.DirEntry[Any]:
        """Return the next entry."""
        return next(self._entries)

    def __enter__(self) -> Self:
        """Return the entries, too."""
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing: nothing is open."""

    def close(self) -> None:
        """Do nothing: nothing is open."""


def listdir(path: Any = ".") -> list[Any]:
    """Return the names in `path` in falling order."""
    return sorted(LISTDIR(path), reverse=True)


replace: Callable[[object, str, object], None] = setattr
replace(os, "listdir", listdir)
replace(os, "scandir", Turned)
