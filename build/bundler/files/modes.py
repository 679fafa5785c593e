"""The modes of a bundle's files: stated by what brings a file, never read from a disk.

FAT and Windows keep no executable bit, and shared folders often show one on every file. So wheels
and archives say which of their files are executable, the manifest lists it, and archives and images
take it from there. A disk is given modes and dates as far as it keeps them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.errors import VerificationError

if TYPE_CHECKING:
    from collections.abc import Iterator


PLAIN = 0o644
EXECUTABLE = 0o755
FOLDER = 0o755
READ_ONLY = 0o444
UNSUPPORTED = frozenset({errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


def listed(root: Path) -> dict[str, int]:
    """Return the mode of every file of the bundle at `root`, by path, as its manifest lists it.

    Raises VerificationError for what is not a bundle.
    """
    # The rest of this module is used by a Python that may be older than the manifest's.
    from sidecar.manifest import (  # noqa: PLC0415
        MANIFEST,
        MANIFESTS,
        ManifestError,
        read,
        read_entries,
    )

    try:
        manifest = read(root)
        lists = {c.name: read_entries(root, c) for c in manifest.components}
    except ManifestError as error:
        raise VerificationError(
            f"{root} is not a bundle that can be read",
            why=str(error),
            next_step="python3 build assemble",
        ) from error
    modes = dict.fromkeys([MANIFEST, *(f"{MANIFESTS}/{name}.json" for name in lists)], PLAIN)
    modes |= {entry.path: entry.mode for entries in lists.values() for entry in entries}
    return modes | {document.path: document.mode for document in manifest.documents}


def set_mode(path: Path | str | int, mode: int) -> None:
    """Give the file or folder at `path`, or an open file, a mode, where its file system has any."""
    with _if_supported():
        os.chmod(path, mode)  # noqa: PTH101 - a bundle has 20,000 files


def set_date(path: Path | str, epoch: int) -> None:
    """Give the file or folder at `path` a date in seconds since 1970, where we may set one."""
    with _if_supported():
        os.utime(path, (epoch, epoch))


def keeps_modes(folder: Path) -> bool | None:
    """Return whether files in `folder` keep their executable bit; None if that cannot be tried.

    It is tried with a file that is removed again.
    """
    try:
        with tempfile.NamedTemporaryFile(prefix=".sidecar-mode-", dir=folder) as file:
            for mode in (PLAIN, EXECUTABLE):
                set_mode(file.name, mode)
                if bool(Path(file.name).stat().st_mode & 0o100) != bool(mode & 0o100):
                    return False
    except OSError:
        return None
    return True


@contextlib.contextmanager
def _if_supported() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
