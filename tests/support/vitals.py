"""What a process and its children hold, as Linux tells it, and whether that grows."""

from __future__ import annotations

import os
import re
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

KIB_PER_MB = 1000 / 1.024
PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """One look at a process; sizes in MB (10^6 bytes), `at_s` on the monotonic clock.

    `anon_mb` is the part of `rss_mb` that no file backs. `children` and `family_mb` count its
    descendants, and its and their resident memory together. `cpu_s` is the time it has computed,
    `load` how many processes of the whole machine wanted to, on average over a minute.
    """

    at_s: float
    rss_mb: float
    anon_mb: float
    handles: int
    threads: int
    children: int
    family_mb: float
    cpu_s: float
    load: float


def look(pid: int) -> Vitals:
    """Return what the process `pid` holds now. Raises OSError once it is gone."""
    status = _status(pid)
    children = list(_descendants(pid))
    return Vitals(
        at_s=time.monotonic(),
        rss_mb=status["VmRSS"] / KIB_PER_MB,
        anon_mb=status["RssAnon"] / KIB_PER_MB,
        handles=len(list((PROC / str(pid) / "fd").iterdir())),
        threads=status["Threads"],
        children=len(children),
        family_mb=(status["VmRSS"] + sum(map(_resident, children))) / KIB_PER_MB,
        cpu_s=_computed_s(pid),
        load=os.getloadavg()[0],
    )


def _computed_s(pid: int) -> float:
    # The name in parentheses may have spaces of its own.
    fields = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    user, system = fields.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _status(pid: int) -> dict[str, int]:
    text = (PROC / str(pid) / "status").read_text(encoding="utf-8", errors="replace")
    found = re.findall(r"^(VmRSS|RssAnon|Threads):\s+(\d+)", text, re.MULTILINE)
    if len(found) < len(("VmRSS", "RssAnon", "Threads")):
        message = f"process {pid} has ended"
        raise ProcessLookupError(message)
    return {name: int(value) for name, value in found}


def _resident(pid: int) -> int:
    try:
        return _status(pid)["VmRSS"]
    except OSError:  # it ended meanwhile
        return 0


def _descendants(pid: int) -> Iterator[int]:
    for path in (PROC / str(pid) / "task").glob("*/children"):
        try:
            children = [int(word) for word in path.read_text(encoding="ascii").split()]
        except OSError:  # the thread ended meanwhile
            continue
        for child in children:
            yield child
            yield from _descendants(child)


def slope_per_min(at_s: Sequence[float], values: Sequence[float]) -> float:
    """Return by how much `values` grow in a minute, by least squares; 0 for fewer than two."""
    if len(set(at_s)) < 2:
        return 0.0
    return 60 * statistics.linear_regression(at_s, values).slope


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that `percent` of `values` do not exceed (nearest rank); 0 for none."""
    ranked = sorted(values)
    return ranked[max(0, -(-len(ranked) * int(percent) // 100) - 1)] if ranked else 0.0
