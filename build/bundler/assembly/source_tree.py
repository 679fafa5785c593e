"""Our own sources in a checkout: which files they are and what they say, the same on any machine.

Editors and desktops leave files of their own between them, and a checkout may have the line endings
of Windows. Neither decides what a bundle holds: such files are passed over, and lines end in LF.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.digests import Digest
from bundler.errors import PolicyError

if TYPE_CHECKING:
    from collections.abc import Mapping

# Beside everything that begins with a dot: version control, Finder, Emacs' locks, vim's swap files.
STRAY = (
    *("__pycache__", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"),
    *("*~", "#*#", "*.swp", "*.swo", "*.bak", "*.tmp", "*.orig", "*.rej"),
)
# Says to type checkers that a package has types; no interpreter reads it.
TYPED = "py.typed"


def is_stray(name: str) -> bool:
    """Return whether a file or folder called `name` is an editor's or a desktop's, not a source."""
    folded = name.lower()
    return name.startswith(".") or any(fnmatch.fnmatchcase(folded, glob) for glob in STRAY)


def python_sources(root: Path) -> dict[str, Path]:
    """Return the Python sources below `root`, by POSIX path from there, sorted.

    Raises PolicyError for a file that is neither Python source nor stray.
    """
    found = {}
    for parent, folders, names in os.walk(root):
        folders[:] = [folder for folder in folders if not is_stray(folder)]
        for path in (Path(parent, name) for name in names if not is_stray(name)):
            place = path.relative_to(root).as_posix()
            if path.name == TYPED:
                continue
            if path.suffix != ".py":
                raise PolicyError(
                    f"{root.name}/{place} is not Python source",
                    why="this folder holds source and nothing else",
                    next_step=f"move it out of {root.name}/",
                )
            found[place] = path
    return dict(sorted(found.items()))


def text_of(path: Path) -> bytes:
    """Return the bytes of the text file at `path` as git stores them: every line ends in LF."""
    return path.read_bytes().replace(b"\r\n", b"\n")


def digest_of(sources: Mapping[str, Path]) -> Digest:
    """Return one digest of text files: their paths and what they say, in the order of the paths."""
    total = hashlib.sha256()
    size = 0
    for place in sorted(sources):
        digest = Digest.of_bytes(text_of(sources[place]))
        total.update(f"{place}\0{digest.sha256}\n".encode())
        size += digest.size or 0
    return Digest(sha256=total.hexdigest(), size=size)
