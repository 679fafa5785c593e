"""The machine: its processor and system, and from /proc the memory and CPU time of processes."""

from __future__ import annotations

import datetime as dt
import os
import platform
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sidecar.process import cores

if TYPE_CHECKING:
    from collections.abc import Iterator

PROC = Path("/proc")
# The instructions that decide how fast matrices are multiplied.
INSTRUCTIONS = (
    *("sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni"),
    *("avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16"),
    *("amx_tile", "amx_int8", "amx_bf16"),
    *("asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve", "sve2"),
)
INTERVAL_S = 0.05
KIB = 1024
# In /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal.
IDLE, COUNTED = (3, 4), 8
# In /proc/PID/stat behind the name in brackets: its own CPU time, and that of ended children.
TIMES = slice(11, 15)


def describe(proc: Path = PROC) -> dict[str, Any]:
    """Return the processor, cores, system, load and time of day, as plain data."""
    facts: dict[str, str] = {}
    with suppress(OSError):
        for line in (proc / "cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            facts.setdefault(name.strip().replace("Features", "flags"), value.strip())
    flags = facts.get("flags", "").split()
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": facts.get("model name") or platform.processor() or "unknown processor",
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "hardware_threads": os.cpu_count() or 1,
        "cores": cores.count(),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else [],
    }


def private_bytes(pid: int, proc: Path = PROC) -> int | None:
    """Return the private memory (RssAnon) of `pid` and its children, None where it is unknown.

    A mapped model is not counted: it is the system's cache and can be dropped at any time.
    """
    sizes = []
    for each in family(pid, proc):
        with suppress(OSError):
            for line in (proc / str(each) / "status").read_text(encoding="utf-8").splitlines():
                name, _, value = line.partition(":")
                sizes += [int(value.split()[0]) * KIB] if name == "RssAnon" else []
    return sum(sizes) if sizes else None


@contextmanager
def watch_private(pid: int) -> Iterator[list[int]]:
    """Give a list that holds the private memory of `pid` at intervals, and at the block's end."""
    found: list[int] = []
    is_over = threading.Event()

    def look() -> None:
        is_last = False
        while not is_last:
            is_last = is_over.wait(INTERVAL_S)
            if (size := private_bytes(pid)) is not None:
                found.append(size)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        is_over.set()
        thread.join()


def family(pid: int, proc: Path = PROC) -> list[int]:
    """Return `pid` and every process that it started, directly or not."""
    found, waiting = [], [pid]
    while waiting:
        found.append(waiting.pop())
        with suppress(OSError):
            for task in (proc / str(found[-1]) / "task").iterdir():
                with suppress(OSError):
                    waiting += map(int, (task / "children").read_text().split())
    return found


class OtherLoad:
    """Measures the share of all cores that other programs took since it was made.

    A library whose threads spin while they wait loses many times its speed as soon as another
    program takes one of its cores: a busy machine distorts a comparison.
    """

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc
        self._before = self._now()

    def share(self) -> float | None:
        """Return the share, from 0 to 1; None where the system has no such counters."""
        before, after = self._before, self._now()
        if before is None or after is None or after[0] <= before[0]:
            return None
        others = (after[1] - before[1]) / (after[0] - before[0]) / (os.cpu_count() or 1)
        return min(1.0, max(0.0, others))

    def _now(self) -> tuple[float, float] | None:
        """Return the clock, and the CPU time of all processes but ours, in seconds."""
        try:
            tick = os.sysconf("SC_CLK_TCK")
            fields = (self._proc / "stat").read_text(encoding="utf-8").split("\n", 1)[0].split()
            times = [int(field) for field in fields[1 : COUNTED + 1]]
        except (OSError, ValueError, AttributeError):
            return None
        busy = sum(value for index, value in enumerate(times) if index not in IDLE)
        ours = 0
        for pid in family(os.getpid(), self._proc):
            with suppress(OSError, ValueError):
                text = (self._proc / str(pid) / "stat").read_text(encoding="utf-8")
                ours += sum(int(field) for field in text.rpartition(")")[2].split()[TIMES])
        return time.perf_counter(), (busy - ours) / tick
