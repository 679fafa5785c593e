"""Standard input, output and error as a parent hands them over, and the events it reads there."""

from __future__ import annotations

import json
import os
import select
import sys
from typing import Literal, Protocol

# What a pipe that is ready for writing is sure to take without blocking.
_STEP = getattr(select, "PIPE_BUF", 512)


def fill_standard() -> None:
    """Open the null device in place of each of the descriptors 0, 1 and 2 that is closed.

    The next file or socket would take the free number, and be written to as if it were a log.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def offer(descriptor: int, data: bytes) -> bool:
    """Write `data` if it can be done at once; return whether all of it was written.

    A reader that is gone or slow must never stop or end the service. The descriptor stays
    blocking, as it may be shared with other programs. Windows cannot ask a pipe for room: there
    a full one blocks.
    """
    try:
        for at in range(0, len(data), _STEP):
            if not is_writable(descriptor):
                return False
            os.write(descriptor, data[at : at + _STEP])
    except (OSError, ValueError):
        return False
    return True


def is_readable(descriptor: int) -> bool:
    """Return whether a socket, or elsewhere than on Windows any other, has something to read.

    The end of what is sent is something, too. Raises OSError or ValueError if it is closed.
    """
    if sys.platform == "win32":
        return bool(select.select([descriptor], [], [], 0)[0])
    asked = select.poll()  # of any number, which select does not take
    asked.register(descriptor, select.POLLIN)
    return bool(asked.poll(0))


def is_writable(descriptor: int) -> bool:
    """Return whether a short write would not block. Raises OSError or ValueError if closed."""
    if sys.platform == "win32":
        return True
    return bool(select.select([], [descriptor], [], 0)[1])


Event = Literal["model_cached", "download_started", "download_progress", "model_loaded", "ready"]
PREFIX = "PROGRESS:"


class EventWriter(Protocol):
    """Tells the parent process what happens."""

    def write_event(self, event: Event, data: dict[str, object]) -> None:
        """Write one line, or drop it when its reader is gone or slow."""


class Silent:
    """Drops every event."""

    def write_event(self, event: Event, data: dict[str, object]) -> None:
        """Write nothing."""


class PipeEventWriter:
    """Writes `PROGRESS:{"type":…,"data":{…}}` lines to a file descriptor.

    A line is dropped when the reader is gone, or when its pipe is full.
    """

    def __init__(self, descriptor: int) -> None:
        """Write to `descriptor`."""
        self._descriptor = descriptor

    def write_event(self, event: Event, data: dict[str, object]) -> None:
        """Write one line, or drop it when its reader is gone or slow."""
        line = json.dumps({"type": event, "data": data}, separators=(",", ":"))
        offer(self._descriptor, f"{PREFIX}{line}\n".encode())


def claim_stdout() -> PipeEventWriter:
    """Return what writes events to the real stdout, and lead all else written there to stderr.

    Libraries that print, in Python or in C, would break the parent's parser otherwise.
    """
    return PipeEventWriter(private_stdout())


def private_stdout() -> int:
    """Return a descriptor of the real stdout, and lead all else written there to stderr."""
    private = os.dup(1)
    os.dup2(2, 1)
    return private
