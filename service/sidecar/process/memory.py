"""Memory that ran out, and memory that was freed, given back to the system."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

_MEMORY_WORDS = (
    *("out of memory", "not enough memory", "allocate memory", "bad_alloc", "bad alloc"),
    "failed to map segment",  # the dynamic linker's
)


def is_memory(error: BaseException) -> bool:
    """Return whether memory ran out: Python's, torch's or ONNX Runtime's way of saying so."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(words in text for words in _MEMORY_WORDS)


def trimmer() -> Callable[[], None]:
    """Return what gives freed memory back to the system; it does nothing where there is no need.

    glibc keeps the pages of the largest batch for ever otherwise. Other C libraries have no
    `malloc_trim`.
    """
    if sys.platform != "linux":
        return lambda: None
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return lambda: None
    trim.argtypes = [ctypes.c_size_t]
    trim.restype = ctypes.c_int

    def give_back() -> None:
        trim(0)

    return give_back
