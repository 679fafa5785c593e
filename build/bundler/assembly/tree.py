"""The files of a finished tree: which there are, their modes, and their entries in the manifest."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.atomic import EXECUTABLE, PLAIN
from bundler.errors import PolicyError
from sidecar.manifest import FileEntry, file_sha256

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


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


if TYPE_CHECKING:
    from collections.abc import Iterator

    from bundler.targets import Target

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
