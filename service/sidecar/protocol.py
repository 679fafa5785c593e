"""The lines on stdout that a parent process reads, and nothing else there."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from typing import Literal, Protocol

Event = Literal[
    "model_cached",
    "download_started",
    "download_progress",
    "model_loaded",
    "ready",
]
PREFIX = "PROGRESS:"


class Announcer(Protocol):
    """Tells the parent process what happens."""

    def announce(self, event: Event, data: dict[str, object]) -> None:
        """Write one line, or drop it when nobody reads."""
        ...


class LineAnnouncer:
    """Writes `PROGRESS:{"type":…,"data":{…}}` lines to a file descriptor.

    A line is dropped when the reader is gone, or when a pipe is full: a parent that stopped
    reading must never stop or end the service.
    """

    def __init__(self, descriptor: int) -> None:
        """Write to `descriptor`, which becomes non-blocking if it is a pipe or a socket."""
        self._descriptor = descriptor
        with contextlib.suppress(OSError):
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
                os.set_blocking(descriptor, False)

    def announce(self, event: Event, data: dict[str, object]) -> None:
        """Write one line, or drop it when nobody reads."""
        line = json.dumps({"type": event, "data": data}, separators=(",", ":"))
        with contextlib.suppress(OSError):
            os.write(self._descriptor, f"{PREFIX}{line}\n".encode())


def claim_stdout() -> LineAnnouncer:
    """Return the announcer on the real stdout, and lead everything else written there to stderr.

    Libraries that print, in Python or in C, would break the parent's parser otherwise.
    """
    try:
        private = os.dup(1)
    except OSError:  # started with stdout closed
        return LineAnnouncer(-1)
    os.set_inheritable(private, False)
    try:
        os.dup2(2, 1)
    except OSError:  # started with stderr closed
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)
    return LineAnnouncer(private)
