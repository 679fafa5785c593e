"""What a process and its children hold in memory, from /proc; nothing where there is none.

Private bytes are those that no file backs (RssAnon): a mapped model counts as the system's cache
and can be dropped at any time. The peak (VmHWM) counts mapped pages too.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

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


class Watch:
    """Looks at a process while something else happens; `most` is its largest private memory."""

    def __init__(self, pid: int) -> None:
        """Watch `pid` once entered."""
        self.most: int | None = None
        self._pid = pid
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End, with one last look."""
        self._is_over.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            is_last = self._is_over.wait(INTERVAL_S)
            if (found := read(self._pid)) is not None:
                self.most = max(self.most or 0, found.private)
            if is_last:
                return


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
