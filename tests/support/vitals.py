"""What a process and those that it started hold and have computed.

And what figures of many looks, or of many requests, come to.
"""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MIB = 1 << 20
PROC = Path("/proc")
WAIT_S = 60
# So much has a process computed that reads a document, and none that only starts.
BUSY_S = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """One look at a process; sizes in MB (10^6 bytes), `at_s` on the monotonic clock.

    `anon_mb` is the part of `rss_mb` that no file backs. `children` and `family_mb` count its
    descendants, and its and their resident memory together. `cpu_s` is the time it has computed.
    """

    at_s: float
    rss_mb: float
    anon_mb: float
    handles: int
    threads: int
    children: int
    family_mb: float
    cpu_s: float


def look(pid: int) -> Vitals:
    """Return what the process `pid` holds now. Raises psutil.Error once it is gone."""
    process = psutil.Process(pid)
    rss, family = process.memory_info().rss, process.children(recursive=True)
    held = rss
    for one in family:
        with contextlib.suppress(psutil.Error):  # it ended meanwhile
            held += one.memory_info().rss
    return Vitals(
        at_s=time.monotonic(),
        rss_mb=rss / 1e6,
        anon_mb=memory(pid, "RssAnon") / 1e6,
        handles=process.num_fds(),
        threads=process.num_threads(),
        children=len(family),
        family_mb=held / 1e6,
        cpu_s=cpu_s(pid),
    )


def memory(pid: int, name: str = "VmRSS") -> int:
    """Return `name` of the memory of `pid` in bytes: VmRSS, VmHWM, the peak, or RssAnon.

    Raises ProcessLookupError if it has ended.
    """
    for line in (PROC / str(pid) / "status").read_text(errors="replace").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    message = f"process {pid} has ended"
    raise ProcessLookupError(message)


def forget_peak(pid: int) -> None:
    """Let the peak of memory of `pid` begin anew."""
    (PROC / str(pid) / "clear_refs").write_text("5", encoding="ascii")


def cpu_s(pid: int) -> float:
    """Return the seconds that `pid` has computed; 0 where there is no such process."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def children(pid: int) -> set[int]:
    """Return the processes that `pid` has started and that still run."""
    try:
        return {child.pid for child in psutil.Process(pid).children() if _runs(child.pid)}
    except psutil.Error:
        return set()


def still_there(pids: Iterable[int], *, within_s: float) -> set[int]:
    """Return those of `pids` that have not ended when `within_s` seconds have passed."""
    deadline = time.monotonic() + within_s
    while (left := set(filter(_runs, pids))) and time.monotonic() < deadline:
        time.sleep(0.01)
    return left


def until_reading(pid: int) -> int:
    """Wait until a process that `pid` started is at work on a document, and return it."""
    deadline = time.monotonic() + WAIT_S
    while not (busy := [child for child in children(pid) if cpu_s(child) >= BUSY_S]):
        assert time.monotonic() < deadline, "the document was never begun"
        time.sleep(0.02)
    return busy[0]


def slope_per_min(at_s: Sequence[float], values: Sequence[float]) -> float:
    """Return by how much `values` grow in a minute, by least squares; 0 for fewer than two."""
    if len(set(at_s)) < 2:
        return 0.0
    return 60 * statistics.linear_regression(at_s, values).slope


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the value that `percent` of `values` do not exceed (nearest rank); nan for none."""
    ranked = sorted(values)
    return ranked[max(0, -(-len(ranked) * percent // 100) - 1)] if ranked else math.nan


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
