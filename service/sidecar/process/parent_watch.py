"""End the service when its parent process dies, or closes our standard input.

A parent that is gone is noticed by the change of our parent's id (on Windows, by its handle), as
the other end of the pipe may live on in another of its children. The system's own signal for it
(PR_SET_PDEATHSIG) is not used: it comes when the thread that started us ends, though the parent
lives. The half for Windows was not measured there.
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

if sys.platform == "win32":
    import ctypes
    import msvcrt
    import time
    from ctypes import wintypes

    _SYNCHRONIZE = 0x0010_0000
    _QUERY = 0x1000
    _WAIT_OBJECT_0 = 0
    _INVALID_PARAMETER = 87  # there is no such process
    _STEP_S = 0.25

    _kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    _kernel.OpenProcess.argtypes = [wintypes.DWORD, wintypes.BOOL, wintypes.DWORD]
    _kernel.OpenProcess.restype = wintypes.HANDLE
    _kernel.GetCurrentProcess.argtypes = []
    _kernel.GetCurrentProcess.restype = wintypes.HANDLE
    _kernel.WaitForSingleObject.argtypes = [wintypes.HANDLE, wintypes.DWORD]
    _kernel.WaitForSingleObject.restype = wintypes.DWORD
    _kernel.GetProcessTimes.argtypes = [wintypes.HANDLE, *[ctypes.POINTER(wintypes.FILETIME)] * 4]
    _kernel.GetProcessTimes.restype = wintypes.BOOL
    _kernel.PeekNamedPipe.argtypes = [
        *(wintypes.HANDLE, wintypes.LPVOID, wintypes.DWORD),
        *[ctypes.POINTER(wintypes.DWORD)] * 3,
    ]
    _kernel.PeekNamedPipe.restype = wintypes.BOOL

    class WindowsParent:
        """The parent by a handle, which outlives it: a process id is used again there.

        A pipe is looked into and never waited on: a read that waits would hold up every other use
        of it. A process that began after this one is not its parent, and a parent that may not be
        looked at, one of another user, counts as alive.
        """

        def __init__(self) -> None:
            """Take the handle of the process that started this one."""
            self._handle = _kernel.OpenProcess(_SYNCHRONIZE | _QUERY, False, os.getppid())
            was_gone = not self._handle and ctypes.get_last_error() == _INVALID_PARAMETER
            self._was_gone = was_gone or (bool(self._handle) and self._is_younger())

        def is_gone(self) -> bool:
            """Return whether the parent has ended."""
            if self._was_gone:
                return True
            if not self._handle:
                return False
            return int(_kernel.WaitForSingleObject(self._handle, 0)) == _WAIT_OBJECT_0

        def wait(self, descriptor: int | None, seconds: float) -> bool:
            """Wait for the parent's end, then look whether `descriptor` has bytes or an end."""
            if descriptor is not None and self._is_readable(descriptor):
                return True
            if self._handle:
                _kernel.WaitForSingleObject(self._handle, int(seconds * 1000))
            else:
                time.sleep(min(seconds, _STEP_S))
            return False

        def _is_readable(self, descriptor: int) -> bool:
            count = wintypes.DWORD()
            pipe = msvcrt.get_osfhandle(descriptor)
            is_open = _kernel.PeekNamedPipe(pipe, None, 0, None, ctypes.byref(count), None)
            return not is_open or count.value > 0

        def _is_younger(self) -> bool:
            theirs, ours = _began(self._handle), _began(_kernel.GetCurrentProcess())
            return theirs is not None and ours is not None and theirs > ours

    def _began(handle: int) -> int | None:
        """Return when a process began, in the system's own count."""
        times = [wintypes.FILETIME() for _ in range(4)]
        if not _kernel.GetProcessTimes(handle, *map(ctypes.byref, times)):
            return None
        return int(times[0].dwHighDateTime) << 32 | int(times[0].dwLowDateTime)


STDIN = 0
POLL_S = 0.25
# While stdin is not listened to yet; and once it was closed, often the first sign of a dead parent.
POLL_SHORT_S = 0.05
READ_BYTES = 1 << 16
log = logging.getLogger("sidecar.parent_watch")


class Parent(Protocol):
    """The process that started this one."""

    def is_gone(self) -> bool:
        """Return whether it has ended."""

    def wait(self, descriptor: int | None, seconds: float) -> bool:
        """Return within `seconds` whether `descriptor` can be read at once, or was closed."""


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
        return WindowsParent()
    return PosixParent()


class ParentWatch:
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
            why = "it is closed or the null device"
            step = "start the service with a pipe there, or leave out --parent-watch"
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
