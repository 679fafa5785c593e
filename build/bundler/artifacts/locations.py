"""Where artifacts come from if not from the recipe's addresses, and where they lie in a store."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from bundler.errors import UsageError, unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


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


UNFINISHED = "partial"
CACHEDIR_TAG = (
    b"Signature: 8a477f597d28d172789f06886806bc55\n"
    b"# Made by a bundle builder. Everything here is fetched or made again when it is missing.\n"
)


def entry_path(store: Path, sha256: str) -> Path:
    """Return where the file with this content lies, once it is there."""
    return store / "sha256" / sha256[:2] / sha256


def tag_cache(store: Path) -> None:
    """Mark the folder as one that backups may leave out (CACHEDIR.TAG), where that can be done."""
    tag = store / "CACHEDIR.TAG"
    with contextlib.suppress(OSError):
        if not tag.exists():
            tag.write_bytes(CACHEDIR_TAG)
