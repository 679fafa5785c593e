"""Which failures are the system's or the environment's, however they were spelled on their way."""

from __future__ import annotations

import os

from sidecar.errors import ServiceError, UnsupportedError
from sidecar.process import foreign, headroom, limits


def of_system(error: BaseException) -> ServiceError | None:
    """Return the end of a start that `error` is: by a foreign library, a limit, memory; else None.

    What `error` came of counts: whoever could not open one file more may have blamed the file.
    """
    if isinstance(error, limits.LimitError | UnsupportedError | headroom.TooLittleMemoryError):
        return error
    found = foreign.named(error, os.environ) or limits.failure(error, is_start=True)
    if found is not None:
        return found
    return headroom.too_little() if _is_memory(error) else None


def _is_memory(error: BaseException | None) -> bool:
    return error is not None and (isinstance(error, MemoryError) or _is_memory(error.__cause__))
