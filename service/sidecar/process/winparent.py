"""The parent process on Windows, held by a handle; written for Windows and not measured there.

A process id is used again there, so the handle is taken once, and a process that began after this
one is not its parent. A pipe is looked into and never waited on: a read that waits would hold up
every other use of it.
"""

from __future__ import annotations

import sys

if sys.platform == "win32":
    import ctypes
    import msvcrt
    import os
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
        """The parent by a handle, which outlives it.

        A parent that may not be looked at, one of another user, counts as alive.
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
