"""The processes that a process has started, and their memory, as Linux tells."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

PROC = Path("/proc")


def children(pid: int) -> set[int]:
    """Return the processes that `pid` has started and that still run."""
    found = set()
    for folder in PROC.iterdir():
        if folder.name.isdecimal():
            state, parent = _stat(int(folder.name))
            if parent == pid and state != "Z":
                found.add(int(folder.name))
    return found


def are_gone(pids: Iterable[int], *, within_s: float) -> bool:
    """Return whether all `pids` ended before `within_s` seconds have passed."""
    deadline = time.monotonic() + within_s
    left = set(pids)
    while True:
        left = {pid for pid in left if _stat(pid)[0] not in ("", "Z", "X")}
        if not left or time.monotonic() > deadline:
            return not left
        time.sleep(0.01)


def rss_mb(pid: int) -> float:
    """Return the resident memory of `pid` in MB."""
    for line in (PROC / str(pid) / "status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _stat(pid: int) -> tuple[str, int]:
    """Return the state and the parent of `pid`, "" and 0 if there is none."""
    try:
        text = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "", 0
    state, parent = text.rpartition(")")[2].split()[:2]
    return state, int(parent)
