"""Whether the bundle that the service was started from still lies where it was.

Updaters of apps move, replace and delete a bundle while its service runs. What is in memory goes
on; no file of it may be opened any more, and another version's least of all.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Literal

from sidecar.manifest import MANIFEST, ManifestError, read_paper

State = Literal["present", "gone"]
_Stamp = tuple[int, ...]


class Presence:
    """Compares a bundle's manifest, and the running program, with what they were at the start.

    The manifest names the digest of every file, so that the same bytes are the same bundle. They
    are read again only where the file's inode or times changed. To be asked by any thread.
    """

    def __init__(self, bundle: Path | None, *, program: str = sys.executable) -> None:
        """Note what is there now; outside of a bundle nothing is looked at, and all is present."""
        self._bundle = bundle
        self._known: dict[_Stamp, bool] = {}
        if bundle is None:
            return
        self._paper = str(bundle / MANIFEST)  # looked at for each /health
        stamp = _stamp(self._paper)
        self._manifest = _content(bundle)
        if stamp is not None:
            self._known[stamp] = True
        # Its inode is held for as long as it runs, so that no other file can have it.
        self._program = program if Path(program).is_relative_to(bundle) else None
        self._inode = _inode(program)

    @property
    def state(self) -> State:
        """What /health says of the bundle."""
        return "gone" if self.is_gone else "present"

    @property
    def is_gone(self) -> bool:
        """Whether the files are no longer those that the service was started from."""
        if self._bundle is None:
            return False
        if self._program is not None and _inode(self._program) != self._inode:
            return True
        return not self._has_manifest(self._bundle)

    def _has_manifest(self, bundle: Path) -> bool:
        stamp = _stamp(self._paper)
        if stamp is None:
            return self._manifest is None
        if stamp not in self._known:
            try:
                found = _content(bundle)
            except OSError:  # no file is left to open it with: that says nothing of the bundle
                return True
            self._known = {stamp: found == self._manifest}
        return self._known[stamp]


def _stamp(path: str) -> _Stamp | None:
    """Return what changes with a file's content, None if there is no file."""
    try:
        found = os.stat(path)  # noqa: PTH116 (a Path takes longer than the system does)
    except (OSError, ValueError):
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _inode(path: str) -> _Stamp | None:
    stamp = _stamp(path)
    return None if stamp is None else stamp[:2]


def _content(bundle: Path) -> bytes | None:
    """Return the manifest's bytes, None if it cannot be read. Raises OSError for want of files."""
    try:
        return read_paper(bundle, MANIFEST)
    except ManifestError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno in (errno.EMFILE, errno.ENFILE):
            raise cause from error
        return None
