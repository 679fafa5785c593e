"""The files of our own sources, and those of a finished tree: which there are, and what they are.

Editors and desktops leave files of their own between sources, and a checkout may have the line
endings of Windows. Neither decides what a bundle holds: such files are passed over, and lines end
in LF.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.atomic import EXECUTABLE, PLAIN
from bundler.digests import Digest
from bundler.errors import PolicyError
from sidecar.manifest import FileEntry, file_sha256

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bundler.targets import Target


def files_of(root: Path) -> Iterator[str]:
    """Yield every file below `root` as a POSIX path, folder by folder, each in order of names.

    Raises PolicyError on a link.
    """
    for parent, folders, files in os.walk(root):
        folders.sort()
        for name in sorted(files) + folders:
            path = os.path.join(parent, name)  # noqa: PTH118 - 25,000 times
            relative = os.path.relpath(path, root).replace(os.sep, "/")
            if os.path.islink(path):  # noqa: PTH114
                raise PolicyError(
                    f"{relative} is a link",
                    why="installers and code signing break links, so a bundle holds none",
                )
            if name not in folders:
                yield relative


def entries_of(root: Path, modes: Mapping[str, int]) -> tuple[FileEntry, ...]:
    """Return an entry for every file in `modes`, below `root`; by path, hashed on two threads."""

    def entry(path: str) -> FileEntry:
        file = root / path
        size = file.stat().st_size
        return FileEntry(path=path, mode=modes[path], size=size, sha256=file_sha256(file))

    with ThreadPoolExecutor(max_workers=2) as pool:
        return tuple(pool.map(entry, sorted(modes)))


# What Windows loads as code. Programs that translate modes into rights there (Cygwin, shared
# folders) make it unusable without the executable bit; wheels set that bit as they like.
WINDOWS_CODE = (".exe", ".dll", ".pyd")


def mode_of(path: str, stated: int, target: Target) -> int:
    """Return the mode of a file in a bundle for `target`: PLAIN or EXECUTABLE.

    `stated` is the mode in the archive that brings it. It counts on systems that have modes; on
    Windows the name decides.
    """
    if target.os == "win":
        return EXECUTABLE if path.lower().endswith(WINDOWS_CODE) else PLAIN
    return EXECUTABLE if stated & 0o111 else PLAIN


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


# Python, and the page that the service serves.
SOURCE = (".py", ".html", ".css", ".js")


def source_files(root: Path) -> dict[str, Path]:
    """Return the source files below `root`, by POSIX path from there, sorted.

    Raises PolicyError for a file that is neither source nor stray.
    """
    found = {}
    for parent, folders, names in os.walk(root):
        folders[:] = [folder for folder in folders if not is_stray(folder)]
        for path in (Path(parent, name) for name in names if not is_stray(name)):
            place = path.relative_to(root).as_posix()
            if path.name == TYPED:
                continue
            if path.suffix not in SOURCE:
                raise PolicyError(
                    f"{root.name}/{place} is not source",
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
