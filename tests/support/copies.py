"""Copies of a bundle that tests may move, lock and damage; the bundle itself stays as it is."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

Record = dict[str, tuple[int, int, int]]


def linked(bundle: Path, place: Path) -> Path:
    """Return a copy at `place` whose files are the bundle's own: replace them, never write to them.

    Where the two places are on different disks it is a full copy.
    """

    def link(source: str, target: str) -> None:
        try:
            os.link(source, target)
        except OSError:
            shutil.copy2(source, target)

    shutil.copytree(bundle, place, copy_function=link)
    return place


def locked(bundle: Path, place: Path) -> Path:
    """Return a full copy at `place` that nobody but root could write to."""
    shutil.copytree(bundle, place)
    for folder, _, files in os.walk(place, topdown=False):
        for name in files:
            path = f"{folder}/{name}"
            os.chmod(path, 0o555 if os.stat(path).st_mode & 0o100 else 0o444)  # noqa: PTH101, PTH116
        os.chmod(folder, 0o555)  # noqa: PTH101 - for 20,000 files the plain calls
    return place


def remove(place: Path) -> None:
    """Remove a copy, locked or not."""
    for folder, _, _ in os.walk(place):
        os.chmod(folder, 0o755)  # noqa: PTH101
    shutil.rmtree(place)


def replace(path: Path, data: bytes) -> None:
    """Put `data` in the place of the file at `path`, whose other links keep what they had."""
    mode = path.stat().st_mode
    path.unlink()
    path.write_bytes(data)
    path.chmod(mode)


def record(place: Path) -> Record:
    """Return mode, size and time of change of everything below `place`, by relative path."""
    found: Record = {}
    for folder, folders, files in os.walk(place):
        for name in (*folders, *files):
            path = f"{folder}/{name}"
            status = os.lstat(path)
            found[os.path.relpath(path, place)] = (
                status.st_mode,
                status.st_size,
                status.st_mtime_ns,
            )
    return found
