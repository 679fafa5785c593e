"""The last look at a finished tree: which paths it may have, and what every file is."""

from __future__ import annotations

import os
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from bundler.errors import PolicyError
from sidecar.manifest import FileEntry, file_sha256

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

RESERVED = frozenset(
    {"con", "prn", "aux", "nul", *(f"com{n}" for n in range(10)), *(f"lpt{n}" for n in range(10))}
)
FORBIDDEN = frozenset('<>:"|?*\\')


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


def check_paths(root: Path, budget: int) -> None:
    """Refuse paths that some target's file system cannot hold, and folders that are empty.

    Raises PolicyError: two names that differ by case alone, a name Windows reserves, a path longer
    than `budget` characters, an empty folder (electron-builder drops those).
    """
    paths = list(files_of(root))
    longest = max(paths, key=len, default="")
    if len(longest) > budget:
        raise PolicyError(
            f"{sum(len(path) > budget for path in paths)} paths are too long, up to {longest}",
            why=f"it has {len(longest)} characters; the recipe allows {budget}, for Windows' sake",
        )
    check_collisions(paths)
    for path in paths:
        for part in path.split("/"):
            stem = part.partition(".")[0].casefold()
            if stem in RESERVED or FORBIDDEN & set(part) or part[-1] in ". ":
                raise PolicyError(f"{path} cannot exist on Windows", why=f"because of {part!r}")
    for parent, folders, files in os.walk(root):
        if not folders and not files and parent != str(root):
            raise PolicyError(f"{os.path.relpath(parent, root)} is an empty folder")


def check_collisions(paths: Iterable[str]) -> None:
    """Refuse names that are one name on a Mac or on Windows, folders' names included.

    Those differ by case alone, or by how Unicode spells a letter. Raises PolicyError.
    """
    seen: dict[str, str] = {}
    for path in paths:
        place = path
        while place:
            folded = unicodedata.normalize("NFC", place).casefold()
            if folded in seen:
                if seen[folded] != place:
                    raise PolicyError(
                        f"{place} and {seen[folded]} differ by case alone",
                        why="some file systems take them for one name",
                    )
                break
            seen[folded] = place
            place = place.rpartition("/")[0]


def entries_of(root: Path, modes: Mapping[str, int]) -> tuple[FileEntry, ...]:
    """Return an entry for every file in `modes`, below `root`; by path, hashed on two threads."""

    def entry(path: str) -> FileEntry:
        file = root / path
        size = file.stat().st_size
        return FileEntry(path=path, mode=modes[path], size=size, sha256=file_sha256(file))

    with ThreadPoolExecutor(max_workers=2) as pool:
        return tuple(pool.map(entry, sorted(modes)))
