"""The limits of the system that a start or a request may meet, by their names and numbers.

Files that may be open (RLIMIT_NOFILE), processor time (RLIMIT_CPU), threads and processes
(RLIMIT_NPROC, the control group's pids.max, the machine's). What meets one of them says "Too many
open files" at best; people need the limit, its value and what raises it. Memory has a module of its
own: `memory`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sidecar.errors import ModelError
from sidecar.process import cgroups, memory
from sidecar.process.cgroups import text_of

ROOT = Path("/")
# What a start opens and begins beside its engine's threads, measured, and some clients beside it.
FILES = 40
THREADS = 6
# Whoever has more threads than this is not counted: it takes a look at every process.
COUNTED = 16_384
STACK_BYTES = 8 << 20
_FILE_WORDS = (os.strerror(errno.EMFILE).lower(), os.strerror(errno.ENFILE).lower())
_THREAD_WORDS = ("can't start new thread", "the system starts no thread", "pthread_create failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A limit: what it counts, how many it allows and has left where that is known, its remedy."""

    name: str
    value: int | None = None
    left: int | None = None
    remedy: str

    def __str__(self) -> str:
        """Return the sentence that names it with its numbers."""
        if self.value is None:
            return f"the limit of {self.name} was met"
        return f"the limit of {self.name} is {self.value}"


class LimitError(ModelError):
    """A limit leaves no room to start or to load; no other engine is tried, for none needs less."""


def named(error: BaseException | None, *, is_start: bool = False) -> Limit | None:
    """Return the limit that `error`, or one that it came of, has met; None for any other error.

    `is_start` says that it came of starting a process or thread, where "try again" means a limit.
    """
    while error is not None:
        number = error.errno if isinstance(error, OSError) else None
        text = str(error).lower()
        if number == errno.EMFILE or _FILE_WORDS[0] in text:
            return files()
        if number == errno.ENFILE or _FILE_WORDS[1] in text:
            return machine_files()
        if any(words in text for words in _THREAD_WORDS) or (is_start and number == errno.EAGAIN):
            return threads()
        if is_start and number == errno.ENOMEM:
            return memory_limit()
        error = error.__cause__ or error.__context__
    return None


def failure(error: BaseException, *, is_start: bool = False) -> LimitError | None:
    """Return the end of the service that `error` is by a limit, else None."""
    limit = named(error, is_start=is_start)
    return None if limit is None else _failure(limit)


def require(*, files_needed: int = FILES, threads_needed: int = THREADS) -> None:
    """Raise LimitError unless so many more files can be opened, and threads be started.

    Asked before libraries are loaded, as some end the process where they get no thread.
    """
    for limit, needed in ((files(), files_needed), (threads(), threads_needed)):
        if limit.left is not None and limit.left < needed:
            raise _failure(limit, needed=needed)


def on_spent_time(end: Callable[[LimitError], object]) -> None:
    """Call `end` when the processor time that this process may use is spent, if it is limited.

    That is a second before the system kills it, which tells nobody why. To be called on the main
    thread.
    """
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 (not on Windows)

    soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
    if soft == resource.RLIM_INFINITY:
        return
    value = soft
    if hard != resource.RLIM_INFINITY and soft >= hard > 1:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_CPU, (hard - 1, hard))
    name = "seconds of processor time of this process"
    limit = Limit(name=name, value=value, left=0, remedy="raise it (ulimit -t)")
    signal.signal(signal.SIGXCPU, lambda *_: end(_failure(limit)))


def files() -> Limit:
    """Return the limit of this process's open files."""
    name, remedy = "open files and sockets of this process", "raise it (ulimit -n)"
    if sys.platform == "win32":
        return Limit(name=name, remedy="let it open fewer files")
    import resource  # noqa: PLC0415 (not on Windows)

    value = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if value == resource.RLIM_INFINITY:
        return Limit(name=name, remedy=remedy)
    return Limit(name=name, value=value, left=max(0, value - _open(value)), remedy=remedy)


def machine_files() -> Limit:
    """Return the limit of the whole machine's open files."""
    value = text_of(ROOT / "proc/sys/fs/file-max")
    return Limit(
        name="open files of this machine",
        value=int(value) if value.isdecimal() else None,
        remedy="end programs that hold files open, or raise it (sysctl fs.file-max)",
    )


def threads(root: Path | None = None) -> Limit:
    """Return the limit of threads and processes of which least is left.

    `root` is where `sys` and `proc` are mounted.
    """
    found = list(_threads(root or ROOT))
    known = [limit for limit in found if limit.left is not None]
    if known:
        return min(known, key=lambda limit: limit.left or 0)
    return Limit(name="threads and processes", remedy="raise it (ulimit -u), or end other programs")


def _threads(root: Path) -> Iterator[Limit]:
    for folder in cgroups.folders(root, "pids"):
        most, there = text_of(folder / "pids.max"), text_of(folder / "pids.current")
        if most.isdecimal() and there.isdecimal():
            yield Limit(
                name="threads and processes of this container or control group",
                value=int(most),
                left=max(0, int(most) - int(there)),
                remedy="raise it (docker run --pids-limit, TasksMax of systemd)",
            )
    own = _of_user(root)
    if own is not None:
        yield own
    space = memory.address_space()
    if space is not None and space.left < STACK_BYTES:
        yield Limit(name=f"{space.name}, in bytes,", value=space.limit, left=0, remedy=space.remedy)
    most = text_of(root / "proc/sys/kernel/threads-max")
    there = text_of(root / "proc/loadavg").partition("/")[2].partition(" ")[0]
    if most.isdecimal() and there.isdecimal():
        yield Limit(
            name="threads of this machine",
            value=int(most),
            left=max(0, int(most) - int(there)),
            remedy="end other programs, or raise it (sysctl kernel.threads-max)",
        )


def _of_user(root: Path) -> Limit | None:
    """Return the limit of this user's threads, which root has none of."""
    if sys.platform == "win32" or os.getuid() == 0:
        return None
    import resource  # noqa: PLC0415 (not on Windows)

    value = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    if value == resource.RLIM_INFINITY or value > COUNTED:
        return None
    there = 0
    for process in (root / "proc").glob("[0-9]*"):
        try:
            if process.stat().st_uid == os.getuid():
                there += (process / "task").stat().st_nlink - 2
        except OSError:  # it has ended
            continue
    left = max(0, value - there) if there else None  # without /proc it is not counted
    name = "threads and processes of this user"
    return Limit(name=name, value=value, left=left, remedy="raise it (ulimit -u)")


def _open(limit: int) -> int:
    """Return how many files this process has open; at most `limit` can be."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            return len(os.listdir(folder)) - 1  # noqa: PTH208 (the folder itself is open, too)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                return limit
    return 0


def memory_limit() -> Limit:
    """Return the limit of memory of which least is left."""
    rooms = [room for room in (memory.address_space(), memory.control_group()) if room is not None]
    if not rooms:
        return Limit(name="memory of this machine", remedy="give it more, or end other programs")
    room = min(rooms, key=lambda room: room.left)
    return Limit(
        name=f"{room.name}, in bytes,", value=room.limit, left=room.left, remedy=room.remedy
    )


def _failure(limit: Limit, *, needed: int | None = None) -> LimitError:
    why = str(limit)
    facts: dict[str, str | int] = {"limit": limit.name}
    if limit.value is not None:
        facts["limit_value"] = limit.value
    if needed is not None and limit.left is not None:
        why += f", of which {limit.left} are left, and a start needs {needed}"
        facts |= {"limit_left": limit.left, "limit_needed": needed}
    what = f"a limit of the system leaves the service too few {limit.name}"
    return LimitError(what, why=why, next_step=limit.remedy, facts=facts)
