"""Put on PYTHONPATH, this sets the clock back by a year while a file named in JUMP_WHILE exists.

The clock of the day alone: one that only measures how long things take has nothing to jump to.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

YEAR_S = 365 * 24 * 3600
TIME, TIME_NS = time.time, time.time_ns
FLAG = os.environ["JUMP_WHILE"]


def now() -> float:
    """Return what the clock of the day shows, set back or not."""
    return TIME() - YEAR_S * os.path.exists(FLAG)  # noqa: PTH110 (pathlib would come before all)


def now_ns() -> int:
    """Return the same in nanoseconds."""
    return TIME_NS() - 10**9 * YEAR_S * os.path.exists(FLAG)  # noqa: PTH110


replace: Callable[[object, str, object], None] = setattr
replace(time, "time", now)
replace(time, "time_ns", now_ns)
