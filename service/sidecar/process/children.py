"""Processes that this one starts: what they need, and whether something has stopped them."""

from __future__ import annotations

import os
import struct
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_BSD_INFO = 3  # PROC_PIDTBSDINFO; its struct begins with the flags and the status
_BSD_INFO_BYTES = 136
_STOPPED = 4  # SSTOP


def is_stopped(child: int) -> bool:
    """Return whether the process `child` is stopped now: by SIGSTOP, a debugger or Ctrl-Z.

    Windows is never asked: it suspends threads, not processes. On macOS this was not measured.
    """
    if sys.platform == "darwin":
        return _is_stopped_on_macos(child)
    if not hasattr(os, "waitid"):
        return False
    try:
        # Left as it is, so that who waits for its end is told of that.
        return os.waitid(os.P_PID, child, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None
    except OSError:  # it has ended, and was waited for
        return False


def _is_stopped_on_macos(child: int) -> bool:
    import ctypes  # noqa: PLC0415 (there alone)

    told = ctypes.create_string_buffer(_BSD_INFO_BYTES)
    size = ctypes.CDLL(None).proc_pidinfo(
        child, _BSD_INFO, ctypes.c_uint64(0), told, _BSD_INFO_BYTES
    )
    return bool(size == _BSD_INFO_BYTES and struct.unpack_from("=II", told)[1] == _STOPPED)


# Without it Windows loads no Winsock, and Python no asyncio (error 10106).
NEEDED = ("SYSTEMROOT",)


def needed(environment: Mapping[str, str], *, platform: str = sys.platform) -> dict[str, str]:
    """Return the variables of `environment` without which no Python starts: on Windows one.

    Not run on Windows, where the names of variables are in capitals in `os.environ`.
    """
    if platform != "win32":
        return {}
    return {name: environment[name] for name in NEEDED if name in environment}
