"""What a process and its children hold in memory, from /proc; nothing where there is none.

Private bytes are those that no file backs (RssAnon): a mapped model counts as the system's cache
and can be dropped at any time. The peak (VmHWM) counts mapped pages too.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PROC = Path("/proc")
INTERVAL_S = 0.05
KIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes of a process and its children: private now, and the most ever resident."""

    private: int
    peak: int


def read(pid: int, *, proc: Path = PROC) -> Memory | None:
    """Return the memory of `pid` and what it started, None if the system does not say."""
    found = [_status(proc / str(each)) for each in family(pid, proc)]
    known = [fields for fields in found if "RssAnon" in fields and "VmHWM" in fields]
    if not known:
        return None
    return Memory(
        private=sum(fields["RssAnon"] for fields in known),
        peak=sum(fields["VmHWM"] for fields in known),
    )


@dataclass(slots=True)
class Seen:
    """What a watch saw: the largest private memory, None until the system said one."""

    most: int | None = None


@contextmanager
def watch(pid: int) -> Iterator[Seen]:
    """Look at `pid` every so often while the block runs, and once more at its end."""
    seen = Seen()
    is_over = threading.Event()

    def look() -> None:
        while True:
            is_last = is_over.wait(INTERVAL_S)
            if (found := read(pid)) is not None:
                seen.most = max(seen.most or 0, found.private)
            if is_last:
                return

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
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


def _status(folder: Path) -> dict[str, int]:
    """Return the sizes in a status file, in bytes."""
    sizes = {}
    with suppress(OSError):
        for line in (folder / "status").read_text(encoding="utf-8").splitlines():
            name, _, rest = line.partition(":")
            if rest.endswith(" kB"):
                sizes[name] = int(rest.split()[0]) * KIB
    return sizes
