"""Other addresses for the recipe's sources, as given on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bundler.errors import UsageError, unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def parse_mirrors(given: Iterable[str], sources: Mapping[str, str]) -> Mapping[str, str]:
    """Return the address for each source named in `given`, NAME=ADDRESS. Raises UsageError."""
    mirrors = {}
    for text in given:
        name, _, address = text.partition("=")
        if not address:
            # It may be an address alone, with a password in it.
            raise UsageError(
                "--mirror takes the name of a source and an address",
                why=f"the sources are {', '.join(sorted(sources))}",
                next_step="pass --mirror NAME=ADDRESS",
            )
        if name not in sources:
            raise unknown("source", name, sorted(sources), option="--mirror")
        mirrors[name] = address
    return mirrors
