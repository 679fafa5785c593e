"""How the service is told to stop: the first signal asks, the second insists."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

HARD_STOP_S = 4.5


class Stop:
    """A request to stop that may come before anything is there to be stopped."""

    def __init__(self) -> None:
        """No stop is requested."""
        self._requested = threading.Event()
        self._hear: Callable[[], None] = lambda: None

    @property
    def is_requested(self) -> bool:
        """Whether somebody asked to stop."""
        return self._requested.is_set()

    def on_request(self, hear: Callable[[], None]) -> None:
        """Call `hear` when the stop is requested: at once if it already was."""
        self._hear = hear
        if self.is_requested:
            hear()

    def request(self) -> None:
        """Ask for a graceful stop; safe from any thread and from a signal handler."""
        self._requested.set()
        self._hear()


def exit_at_once(code: int) -> None:
    """End the process now: a thread inside native code cannot be joined."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            continue
    os._exit(code)


def install(stop: Stop, *, hard_stop_s: float = HARD_STOP_S) -> None:
    """Handle SIGINT and SIGTERM (SIGBREAK on Windows).

    The first asks `stop`, and ends the process with code 0 after `hard_stop_s` whatever hangs.
    The second ends it at once with 128 plus the signal's number.
    """

    def handle(number: int, _frame: FrameType | None) -> None:
        if stop.is_requested:
            os._exit(128 + number)
        watchdog = threading.Timer(hard_stop_s, exit_at_once, args=(0,))
        watchdog.daemon = True
        watchdog.start()
        stop.request()

    handled = [signal.SIGINT, signal.SIGTERM]
    if sys.platform == "win32":
        handled.append(signal.SIGBREAK)
    for number in handled:
        signal.signal(number, handle)
