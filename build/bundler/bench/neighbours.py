"""How much of the machine others took while we measured: what tells a quiet run from a loud one.

A library whose threads spin while they wait loses many times its speed as soon as another program
wants one of its cores, so a loud run is not only slower but tilted.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bundler.bench.memory import PROC, family

if TYPE_CHECKING:
    from pathlib import Path

LOUD = 0.1
# In /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal.
IDLE = (3, 4)
COUNTED = 8
# In /proc/PID/stat, counted behind the name in brackets: its own time, and of children that ended.
TIMES = slice(11, 15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Seconds of CPU time so far: all cores' together, our own processes', and the clock."""

    all_s: float
    ours_s: float
    clock_s: float


def now(*, proc: Path = PROC) -> Moment | None:
    """Return this moment, None where the system does not say."""
    try:
        tick = os.sysconf("SC_CLK_TCK")
        fields = (proc / "stat").read_text(encoding="utf-8").split("\n", 1)[0].split()[1:]
        times = [int(field) for field in fields[:COUNTED]]
    except (OSError, ValueError, AttributeError):
        return None
    busy = sum(value for place, value in enumerate(times) if place not in IDLE)
    ours = sum(_spent(proc / str(pid)) for pid in family(os.getpid(), proc))
    return Moment(all_s=busy / tick, ours_s=ours / tick, clock_s=time.perf_counter())


def taken(before: Moment | None, after: Moment | None, *, cores: int) -> float | None:
    """Return the share of all cores that others had between two moments, None if unknown."""
    if before is None or after is None or after.clock_s <= before.clock_s:
        return None
    others = (after.all_s - before.all_s) - (after.ours_s - before.ours_s)
    return min(1.0, max(0.0, others / (after.clock_s - before.clock_s) / cores))


def _spent(folder: Path) -> int:
    with suppress(OSError, ValueError):
        text = (folder / "stat").read_text(encoding="utf-8")
        return sum(int(field) for field in text.rpartition(")")[2].split()[TIMES])
    return 0
