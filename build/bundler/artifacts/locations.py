"""Where artifacts lie in a store."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

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
