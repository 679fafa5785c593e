"""A file system without modes, played to one process: FAT, a shared folder, another system's disk.

Setting a mode does nothing and fails at nothing; every file shows the same bits. What another
process sees of it stays true.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

# What a status holds beside the ten values that it has by number.
NAMED = (
    *("st_atime", "st_mtime", "st_ctime", "st_atime_ns", "st_mtime_ns", "st_ctime_ns"),
    *("st_blksize", "st_blocks", "st_rdev"),
)


def shown(status: os.stat_result, bits: int) -> os.stat_result:
    """Return `status` with the permissions `bits`, if it is a regular file's."""
    if not stat.S_ISREG(status.st_mode):
        return status
    return os.stat_result(
        (stat.S_IFREG | bits, *status[1:10]), {name: getattr(status, name) for name in NAMED}
    )


def forget_modes(bits: int, put: Callable[[object, str, object], None] = setattr) -> None:
    """Make every file of this process show the permissions `bits`; `put` replaces attributes."""

    def showing(function: Callable[..., os.stat_result]) -> Callable[..., os.stat_result]:
        return lambda *arguments, **options: shown(function(*arguments, **options), bits)

    def nothing(*_arguments: Any, **_options: Any) -> None:
        pass

    for name in ("stat", "lstat", "fstat"):
        put(os, name, showing(getattr(os, name)))
    for name in ("chmod", "fchmod"):
        put(os, name, nothing)
