"""Other addresses for the recipe's sources, as given on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bundler.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def parse_mirrors(given: Iterable[str], sources: Mapping[str, str]) -> Mapping[str, str]:
    """Return the address for each source named in `given`, NAME=ADDRESS. Raises UsageError."""
    mirrors = {}
    for text in given:
        name, _, address = text.partition("=")
        if not address or name not in sources:
            raise UsageError(
                f"--mirror {text} names no source",
                why=f"the sources are {', '.join(sorted(sources))}",
                next_step="pass --mirror NAME=ADDRESS",
            )
        mirrors[name] = address
    return mirrors
