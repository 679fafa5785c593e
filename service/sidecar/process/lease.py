"""The lease of a parent process: the service ends when its parent dies, or closes our stdin.

A parent that is gone is noticed by the change of our parent's id (on Windows, by its handle), as
the other end of the pipe may live on in another of its children. The system's own signal for it
(PR_SET_PDEATHSIG) is not used: it comes when the thread that started us ends, though the parent
lives.
"""

from __future__ import annotations

import logging
import os
import select
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from sidecar.errors import UsageError
from sidecar.process.signals import Stop

STDIN = 0
POLL_S = 0.25
# While stdin is not listened to yet; and once it was closed, often the first sign of a dead parent.
POLL_SHORT_S = 0.05
READ_BYTES = 1 << 16
log = logging.getLogger("sidecar.lease")


class Parent(Protocol):
    """The process that started this one."""

    def is_gone(self) -> bool:
        """Return whether it has ended."""
        ...

    def wait(self, descriptor: int | None, seconds: float) -> bool:
        """Return within `seconds` whether `descriptor` can be read at once, or was closed."""
        ...


class PosixParent:
    """The parent by its number: an orphan gets another one."""

    def __init__(self) -> None:
        """Remember who the parent is now."""
        self._number = os.getppid()

    def is_gone(self) -> bool:
        """Return whether the parent is another one now."""
        return os.getppid() != self._number

    def wait(self, descriptor: int | None, seconds: float) -> bool:
        """Wait for something to read. Raises OSError and ValueError if it is closed on our side."""
        heard = [] if descriptor is None else [descriptor]
        return bool(select.select(heard, [], [], seconds)[0])


def parent() -> Parent:
    """Return the process that started this one."""
    if sys.platform == "win32":
        from sidecar.process.winparent import WindowsParent  # noqa: PLC0415 (there alone)

        return WindowsParent()
    return PosixParent()


class Lease:
    """Watches the parent on a thread of its own.

    When the parent is gone, the process ends at once, whatever hangs: nobody is left to answer.
    When stdin is closed by a parent that lives, `stop` is requested.
    """

    def __init__(
        self,
        stop: Stop,
        *,
        descriptor: int = STDIN,
        find: Callable[[], Parent] = parent,
        end: Callable[[int], object] = os._exit,
    ) -> None:
        """Watch nothing until `begin`. Raises UsageError if stdin is no lease to hold."""
        if _is_null(descriptor):
            what = "--parent-watch needs a pipe on standard input"
            why = "it is closed or the null device, which nobody can close later"
            step = "start the service with a pipe there, or leave --parent-watch out"
            raise UsageError(what, why=why, next_step=step)
        self._stop = stop
        self._descriptor = descriptor
        self._find = find
        self._end = end
        self._listens = False

    def begin(self) -> None:
        """Watch the parent from now on; stdin is left alone."""
        found = self._find()
        threading.Thread(target=self._watch, args=(found,), name="lease", daemon=True).start()

    def listen(self) -> None:
        """Read stdin from now on, for nothing but its end."""
        self._listens = True

    def _watch(self, found: Parent) -> None:
        is_open = True
        while not found.is_gone():
            hears = self._descriptor if is_open and self._listens else None
            try:
                is_ready = found.wait(hears, POLL_SHORT_S if hears is None else POLL_S)
                is_open = is_open and not (is_ready and not os.read(self._descriptor, READ_BYTES))
            except (OSError, ValueError):
                is_open = False
            if not is_open and hears is not None:
                self._stop.request()
                log.info("standard input was closed: stopping")
        # Nothing is logged: a reader may be gone, and no lock may be waited for.
        self._end(0)


def _is_null(descriptor: int) -> bool:
    try:
        found = os.fstat(descriptor)
    except OSError:
        return True
    if sys.platform == "win32":
        return False  # there it reads as one that was closed, and ends the service
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == Path(os.devnull).stat().st_rdev
