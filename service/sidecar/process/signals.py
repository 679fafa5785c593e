"""How the service is told to stop: the first signal asks, the second insists."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

from sidecar.process import stdio

HARD_STOP_S = 4.5
_STEPS = 20


class Stop:
    """A request to stop that may come before anything is there to be stopped.

    Nothing here waits for a lock, as a handler of a signal may interrupt any line of it.
    """

    def __init__(self, *, early: Callable[[], object] = lambda: None) -> None:
        """No stop is requested; `early` is called for one that nobody is there to hear yet."""
        self._is_requested = False
        self._hear = early
        self._gate = threading.Lock()
        self._gate.acquire()

    @property
    def is_requested(self) -> bool:
        """Whether somebody asked to stop."""
        return self._is_requested

    def on_request(self, hear: Callable[[], object]) -> None:
        """Call `hear` when the stop is requested: at once if it already was."""
        self._hear = hear
        if self._is_requested:
            hear()

    def request(self) -> None:
        """Ask for a graceful stop; safe from any thread and from a signal handler."""
        self._is_requested = True
        with contextlib.suppress(RuntimeError):  # asked before
            self._gate.release()
        self._hear()

    def wait(self) -> None:
        """Return once the stop is requested; for one thread, once."""
        self._gate.acquire()


def exit_at_once(code: int) -> None:
    """End the process now: a thread inside native code cannot be joined."""
    for stream in (sys.stdout, sys.stderr):
        # Nobody may read: a full pipe would hold the process back.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            if stdio.is_writable(stream.fileno()):
                stream.flush()
    os._exit(code)


def install(stop: Stop) -> None:
    """Handle SIGINT, SIGTERM and SIGHUP (SIGBREAK on Windows).

    The first asks `stop`; the second ends the process at once with 128 plus its number. A SIGHUP
    that whoever started us has turned off, as nohup does, stays off. Writing to a reader that is
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
    """End the process with code 0 when `hard_stop_s` have passed since `stop`, whatever hangs.

    The thread starts now, as a handler of a signal cannot safely start one.
    """

    def end() -> None:
        stop.wait()
        # In steps, of which a suspension takes one: what was left to do then still has its time.
        for _ in range(_STEPS):
            time.sleep(hard_stop_s / _STEPS)
        os._exit(0)

    threading.Thread(target=end, name="watchdog", daemon=True).start()
