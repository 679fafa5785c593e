"""The control groups around this process, of either version, as cgroups(7) describes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

MOUNT = "sys/fs/cgroup"
# Where systemd mounts version 2 beside version 1.
UNIFIED = "unified"


def folders(root: Path, controller: str) -> Iterator[Path]:
    """Yield where the groups around this process that `controller` bounds may lie, innermost first.

    `root` is where `sys` and `proc` are mounted. Inside of a container the path of a group may be
    that of the host, whose end is then not there: not every folder exists.
    """
    for line in text_of(root / "proc/self/cgroup").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        mounts = [root / MOUNT, root / MOUNT / UNIFIED]
        if controllers:
            if controller not in controllers.split(","):
                continue
            mounts = [root / MOUNT / name for name in dict.fromkeys((controllers, controller))]
        inner = PurePosixPath(path.lstrip("/"))
        for mount in mounts:
            for folder in (inner, *inner.parents):
                yield mount / folder


def text_of(path: Path) -> str:
    """Return what the kernel says in the file at `path`, nothing if there is none."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except (OSError, ValueError):
        return ""
