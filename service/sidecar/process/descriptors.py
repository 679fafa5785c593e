"""Standard input, output and error as a parent hands them over: closed, full or abandoned."""

from __future__ import annotations

import os
import select
import sys

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
