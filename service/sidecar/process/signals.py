"""How the service is told to stop: by signals, or by the end of its parent.

A parent that is gone is noticed by the change of our parent's id (on Windows, by its handle), as
the other end of the pipe may live on in another of its children. The system's own signal for it
(PR_SET_PDEATHSIG) is not used: it comes when the thread that started us ends, though the parent
lives. The half for Windows was not measured there.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Protocol

from sidecar.errors import UsageError
from sidecar.process import stdio

HARD_STOP_S = 4.5
_STEPS = 20


class Stop:
    """A request to stop that may come before anything is there to be stopped.

    Nothing here waits for a lock, as a handler of a signal may interrupt any line of it.
    """

    def __init__(self, *, early: Callable[[], object] = lambda: None) -> None:
        """No stop is requested; `early` is called for one that comes before `on_request`."""
        self.is_requested = False
        self._hear = early
        self._gate = threading.Lock()
        self._gate.acquire()

    def on_request(self, hear: Callable[[], object]) -> None:
        """Call `hear` when the stop is requested: at once if it already was."""
        self._hear = hear
        if self.is_requested:
            hear()

    def request(self) -> None:
        """Ask for a graceful stop; safe from any thread and from a signal handler."""
        self.is_requested = True
        with contextlib.suppress(RuntimeError):  # asked before
            self._gate.release()
        self._hear()

    def wait(self) -> None:
        """Return once the stop is requested; for one thread, once."""
        self._gate.acquire()


def exit_at_once(code: int) -> None:
    """End the process now: a thread inside native code cannot be joined."""
    for stream in (sys.stdout, sys.stderr):
        # If nothing reads the pipe and it is full, a flush would block the exit.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            if stdio.is_writable(stream.fileno()):
                stream.flush()
    os._exit(code)


def install(stop: Stop) -> None:
    """Handle SIGINT, SIGTERM and SIGHUP (SIGBREAK on Windows).

    The first asks `stop`; the second ends the process at once with 128 plus its number. A SIGHUP
    that our parent has turned off, as nohup does, stays off. Writing to a reader that is
    gone is an error and no signal.
    """
    is_warned = False

    def handle(number: int, _frame: FrameType | None) -> None:
        nonlocal is_warned
        if is_warned:
            os._exit(128 + number)
        is_warned = True
        stop.request()

    handled = [signal.SIGINT, signal.SIGTERM]
    if sys.platform == "win32":
        handled.append(signal.SIGBREAK)
    else:
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            handled.append(signal.SIGHUP)
    for number in handled:
        signal.signal(number, handle)


def watch(stop: Stop, *, hard_stop_s: float = HARD_STOP_S) -> None:
    """End the process with code 0 when `hard_stop_s` have passed since `stop`, even if it hangs.

    The thread starts now, as a handler of a signal cannot safely start one.
    """

    def end() -> None:
        stop.wait()
        # In steps, of which a suspension takes one: what was left to do then still has its time.
        for _ in range(_STEPS):
            time.sleep(hard_stop_s / _STEPS)
        os._exit(0)

    threading.Thread(target=end, name="watchdog", daemon=True).start()


if sys.platform == "win32":
    import ctypes
    import msvcrt
    from ctypes import wintypes

    _SYNCHRONIZE = 0x0010_0000
    _QUERY = 0x1000
    _WAIT_OBJECT_0 = 0
    _INVALID_PARAMETER = 87  # there is no such process
    _STEP_S = 0.25

    _kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    _kernel.OpenProcess.argtypes = [wintypes.DWORD, wintypes.BOOL, wintypes.DWORD]
    _kernel.OpenProcess.restype = wintypes.HANDLE
    _kernel.GetCurrentProcess.restype = wintypes.HANDLE
    _kernel.WaitForSingleObject.argtypes = [wintypes.HANDLE, wintypes.DWORD]
    _kernel.GetProcessTimes.argtypes = [wintypes.HANDLE, *[ctypes.POINTER(wintypes.FILETIME)] * 4]
    _kernel.PeekNamedPipe.argtypes = [
        *(wintypes.HANDLE, wintypes.LPVOID, wintypes.DWORD),
        *[ctypes.POINTER(wintypes.DWORD)] * 3,
    ]

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


@dataclass
class ParentWatch:
    """Watches the parent on a separate thread.

    When the parent is gone, the process ends at once, even if it hangs: no client is left.
    When stdin is closed by a parent that lives, `stop` is requested. Nothing is watched until
    `begin`.
    """

    stop: Stop
    descriptor: int = STDIN
    find: Callable[[], Parent] = parent
    end: Callable[[int], object] = os._exit
    _listens: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        """Raise UsageError if stdin is no lease to hold."""
        if _is_null(self.descriptor):
            what = "--parent-watch needs a pipe on standard input"
            why = "it is closed or the null device"
            step = "start the service with a pipe there, or leave out --parent-watch"
            raise UsageError(what, why=why, next_step=step)

    def begin(self) -> None:
        """Watch the parent from now on; stdin is left alone."""
        found = self.find()
        threading.Thread(target=self._watch, args=(found,), name="lease", daemon=True).start()

    def listen(self) -> None:
        """Read stdin from now on, for nothing but its end."""
        self._listens = True

    def _watch(self, found: Parent) -> None:
        is_open = True
        while not found.is_gone():
            hears = self.descriptor if is_open and self._listens else None
            try:
                is_ready = found.wait(hears, POLL_SHORT_S if hears is None else POLL_S)
                is_open = is_open and not (is_ready and not os.read(self.descriptor, READ_BYTES))
            except (OSError, ValueError):
                is_open = False
            if not is_open and hears is not None:
                self.stop.request()
                log.info("standard input was closed: stopping")
        # Nothing is logged: a reader may be gone, and no lock may be waited for.
        self.end(0)


def _is_null(descriptor: int) -> bool:
    try:
        found = os.fstat(descriptor)
    except OSError:
        return True
    if sys.platform == "win32":
        return False  # there it reads as one that was closed, and ends the service
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == Path(os.devnull).stat().st_rdev
