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


class Presence:
    """Compares a bundle's manifest, and the running program, with what they were at the start.

    The manifest names the digest of every file, so that the same bytes are the same bundle. They
    are read again only where the file's inode or times changed. To be asked by any thread.
    """

    def __init__(self, bundle: Path | None, *, program: str = sys.executable) -> None:
        """Note what is there now; outside of a bundle nothing is looked at, and all is present."""
        self._bundle = bundle
        if bundle is None:
            return
        self._paper = str(bundle / MANIFEST)  # looked at for each /health
        self._known = {_stamp(self._paper): True}
        self._manifest = _content(bundle)
        self._program = program if Path(program).is_relative_to(bundle) else None
        # Its inode is held for as long as it runs, so that no other file can have it.
        self._inode = _stamp(program)[:2]

    @property
    def state(self) -> State:
        """What /health says of the bundle."""
        return "gone" if self.is_gone else "present"

    @property
    def is_gone(self) -> bool:
        """Whether the files are no longer those that the service was started from."""
        if self._bundle is None:
            return False
        if self._program is not None and _stamp(self._program)[:2] != self._inode:
            return True
        stamp = _stamp(self._paper)
        is_present = self._known.get(stamp)
        if is_present is None:
            try:
                is_present = _content(self._bundle) == self._manifest
            except OSError:  # no file is left to open it with: that says nothing of the bundle
                return False
            self._known = {stamp: is_present}
        return not is_present


def _stamp(path: str) -> tuple[int, ...]:
    """Return device, inode and what changes with a file's content, nothing if there is no file."""
    try:
        found = os.stat(path)  # noqa: PTH116 (a Path takes longer than the system does)
    except (OSError, ValueError):
        return ()
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _content(bundle: Path) -> bytes | None:
    """Return the manifest's bytes, None if it cannot be read. Raises OSError for want of files."""
    try:
        return read_paper(bundle, MANIFEST)
    except ManifestError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno in (errno.EMFILE, errno.ENFILE):
            raise cause from error
        return None
