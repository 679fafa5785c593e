"""The limits of the system that a start or a request may meet, by their names and numbers.

Files that may be open (RLIMIT_NOFILE), processor time (RLIMIT_CPU), threads and processes
(RLIMIT_NPROC, the control group's pids.max, the machine's), and memory: address space (RLIMIT_AS)
and that of the control group. What meets one of them says "Too many open files" at best, and is
ended without a word at worst: native libraries abort without address space, and the kernel kills
what goes beyond the memory of its control group. People need the limit, its value and what raises
it.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from sidecar.errors import ModelError
from sidecar.process import cgroups
from sidecar.process.cgroups import text_of

ROOT = Path("/")
# What a start opens and begins beside its engine's threads, measured, and some clients beside it.
FILES = 40
THREADS = 6
# Threads are not counted above this: to count them is to look at every process.
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

    def lacks(self, needed: int) -> bool:
        """Return whether less than `needed` is known to be left."""
        return self.left is not None and self.left < needed

    def __str__(self) -> str:
        """Return the sentence that names it with its numbers."""
        if self.value is None:
            return f"the limit of {self.name} was met"
        return f"the limit of {self.name} is {self.value}"


class LimitError(ModelError):
    """A limit leaves no room to start or to load; no other engine is tried, for none needs less."""

    @property
    def is_of_memory(self) -> bool:
        """Whether it is memory that is too little, and not what is counted otherwise."""
        return "limit" not in self.facts

    @property
    def may_pass(self) -> bool:
        """Whether enough may be left later: not where the whole limit is less than is needed."""
        needed, limit = self.facts.get("needed_bytes"), self.facts.get("limit_bytes")
        return not (isinstance(needed, int) and isinstance(limit, int) and needed > limit)


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
        if limit.lacks(needed):
            raise _failure(limit, needed=needed)


def on_spent_time(end: Callable[[LimitError], object]) -> None:
    """Call `end` when the processor time that this process may use is spent, if it is limited.

    That is a second before the system kills it, without saying why. To be called on the main
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
    value = _rlimit("RLIMIT_NOFILE")
    left = None if value is None else max(0, value - _open(value))
    remedy = "let it open fewer files" if sys.platform == "win32" else "raise it (ulimit -n)"
    name = "open files and sockets of this process"
    return Limit(name=name, value=value, left=left, remedy=remedy)


def _rlimit(name: str) -> int | None:
    """Return what setrlimit(2) holds this process to, None for no limit, and on Windows."""
    if sys.platform == "win32":
        return None
    import resource  # noqa: PLC0415 (not on Windows)

    value = resource.getrlimit(getattr(resource, name))[0]
    return None if value == resource.RLIM_INFINITY else value


def machine_files() -> Limit:
    """Return the limit of the whole machine's open files."""
    value = text_of(ROOT / "proc/sys/fs/file-max")
    most = int(value) if value.isdecimal() else None
    remedy = "end programs that hold files open, or raise it (sysctl fs.file-max)"
    return Limit(name="open files of this machine", value=most, remedy=remedy)


def threads(root: Path | None = None) -> Limit:
    """Return the limit of threads and processes of which least is left.

    `root` is where `sys` and `proc` are mounted.
    """
    remedy = "raise it (ulimit -u), or end other programs"
    return _least(_threads(root or ROOT)) or Limit(name="threads and processes", remedy=remedy)


def _counted(name: str, most: str, there: str, remedy: str) -> Limit | None:
    """Return the limit of what is counted by the kernel's texts, None where it says nothing."""
    if not (most.isdecimal() and there.isdecimal()):
        return None
    left = max(0, int(most) - int(there))
    return Limit(name=name, value=int(most), left=left, remedy=remedy)


def _least(limits: Iterable[Limit | None]) -> Limit | None:
    """Return the one of `limits` of which least is left, None where that is known of none."""
    known = [limit for limit in limits if limit is not None and limit.left is not None]
    return min(known, key=lambda limit: limit.left or 0, default=None)


def _threads(root: Path) -> Iterator[Limit | None]:
    for folder in cgroups.folders(root, "pids"):
        name = "threads and processes of this container or control group"
        most, there = text_of(folder / "pids.max"), text_of(folder / "pids.current")
        remedy = "raise it (docker run --pids-limit, TasksMax of systemd)"
        yield _counted(name, most, there, remedy)
    yield _of_user(root)
    space = address_space()
    if space is not None and space.lacks(STACK_BYTES):
        yield replace(space, name=f"{space.name}, in bytes,", left=0)
    most = text_of(root / "proc/sys/kernel/threads-max")
    there = text_of(root / "proc/loadavg").partition("/")[2].partition(" ")[0]
    remedy = "end other programs, or raise it (sysctl kernel.threads-max)"
    yield _counted("threads of this machine", most, there, remedy)


def _of_user(root: Path) -> Limit | None:
    """Return the limit of this user's threads, which root has none of."""
    if sys.platform == "win32" or os.getuid() == 0:
        return None
    value = _rlimit("RLIMIT_NPROC")
    if value is None or value > COUNTED:
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
    limit = _least((address_space(), control_group()))
    if limit is None:
        return Limit(name="memory of this machine", remedy="give it more, or end other programs")
    return replace(limit, name=f"{limit.name}, in bytes,")


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


MIB = 1 << 20
# Version 1 has a number in the place of no limit: the largest that is a multiple of a page.
UNLIMITED = 1 << 62
_RECLAIMABLE = ("inactive_file", "active_file", "slab_reclaimable")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryNeed:
    """Bytes: of address space, and of memory that is in no file.

    What is mapped from a file takes addresses, and memory that the kernel takes back when it must.
    """

    space: int
    private: int

    @property
    def resident(self) -> int:
        """What the process takes when all that is mapped was read."""
        return max(self.space, self.private)

    def with_more(self, *, space: int, private: int) -> MemoryNeed:
        """Return this with so many bytes more."""
        return MemoryNeed(space=self.space + space, private=self.private + private)


# All that is there before the model.
LIBRARIES = MemoryNeed(space=320 * MIB, private=32 * MIB)


def require_memory(need: MemoryNeed, *, is_model: bool = True, root: Path | None = None) -> None:
    """Raise LimitError unless `need` may be had beside what is in use.

    `is_model` says that a smaller model would need less. `root` is where `sys` and `proc` are
    mounted. What is needed was measured on Linux with two cores: more cores need more.
    """
    for limit, needed in ((address_space(), need.space), (control_group(root), need.private)):
        if limit is not None and limit.lacks(needed):
            raise _too_little([limit], needed=needed, is_model=is_model)


def require_within(most: int, need: int) -> None:
    """Raise LimitError unless a model that takes `need` bytes fits into `most` with the rest."""
    left, needed = max(0, most - LIBRARIES.private), LIBRARIES.private + need
    if need > left:
        what = "there is not enough memory to load the model"
        why = f"it takes about {-(-need // MIB)} MiB, and --max-memory leaves {left // MIB}"
        least = -(-needed // MIB)
        step = f"start the service with --max-memory {least} or more, or choose a smaller model"
        facts = {"needed_bytes": needed, "limit_bytes": most}
        raise LimitError(what, why=why, next_step=step, facts=facts)


def too_little(*, root: Path | None = None) -> LimitError:
    """Return the error for memory that ran out while the model was loaded."""
    return _too_little(
        [limit for limit in (address_space(), control_group(root)) if limit is not None]
    )


def address_space() -> Limit | None:
    """Return what is left of the address space, None where it is not limited or not counted."""
    limit = _rlimit("RLIMIT_AS")
    pages = text_of(Path("/proc/self/statm")).partition(" ")[0]
    if limit is None or not pages.isdecimal():
        return None
    left = max(0, limit - int(pages) * mmap.PAGESIZE)
    return Limit(name="address space", value=limit, left=left, remedy="raise it (ulimit -v)")


def control_group(root: Path | None = None) -> Limit | None:
    """Return the memory of the control group that has least left, None where none is limited."""
    root = root or ROOT
    swap = _fields(root / "proc/meminfo").get("SwapFree:", 0) * 1024
    folders = cgroups.folders(root, "memory")
    return _least(limit for folder in folders for limit in _of_group(folder, swap))


def _of_group(folder: Path, swap: int) -> Iterator[Limit]:
    """Yield the limits of one group's memory; `swap` bytes of the machine's are free."""

    def number(name: str) -> int | None:
        text = text_of(folder / f"memory.{name}")
        return int(text) if text.isdecimal() else None

    stat, current = _fields(folder / "memory.stat"), number("current")
    if current is not None:
        allowed = number("swap.max")
        if allowed is not None:
            swap = min(swap, max(0, allowed - (number("swap.current") or 0)))
        taken = current - sum(stat.get(name, 0) for name in _RECLAIMABLE)
        found = [(number("max"), taken - swap)]
    else:
        # Version 1 counts what is in use without the groups below unless asked for the total.
        cache = sum(stat.get(f"total_{name}", stat.get(name, 0)) for name in _RECLAIMABLE)
        found = [
            (number(f"{kind}limit_in_bytes"), used - cache - more)
            for kind, more in (("", swap), ("memsw.", 0))
            if (used := number(f"{kind}usage_in_bytes")) is not None
        ]
    for value, taken in found:
        if value is not None and value < UNLIMITED:
            name = "memory of this container or control group"
            remedy = "raise it (docker run --memory, MemoryMax of systemd)"
            yield Limit(name=name, value=value, left=max(0, value - taken), remedy=remedy)


def _fields(path: Path) -> dict[str, int]:
    """Return the first number of each line by the word before it."""
    words = [line.split() for line in text_of(path).splitlines()]
    return {line[0]: int(line[1]) for line in words if len(line) > 1 and line[1].isdecimal()}


def _too_little(
    limits: list[Limit], *, needed: int | None = None, is_model: bool = True
) -> LimitError:
    facts: dict[str, str | int] = {} if needed is None else {"needed_bytes": needed}
    parts = [] if needed is None else [f"it needs at least {needed} bytes more"]
    for limit in limits:
        parts.append(f"the limit of the {limit.name} is {limit.value} bytes")
        parts.append(f"of which {limit.left} are left")
        facts |= {"limit_bytes": limit.value or 0, "available_bytes": limit.left or 0}
    what = f"there is not enough memory to {'load the model' if is_model else 'start'}"
    steps = [limit.remedy for limit in limits] or ["give it more memory"]
    if is_model:
        steps.append("choose a smaller --model")
    return LimitError(what, why=", ".join(parts), next_step=", or ".join(steps), facts=facts)


_MEMORY_WORDS = (
    *("out of memory", "not enough memory", "allocate memory", "bad_alloc", "bad alloc"),
    "failed to map segment",  # the dynamic linker's
)


def ran_out(error: BaseException | None) -> bool:
    """Return whether memory ran out by `error`, or by one that it came of."""
    return error is not None and (is_memory(error) or ran_out(error.__cause__))


def is_memory(error: BaseException) -> bool:
    """Return whether memory ran out: Python's, torch's or ONNX Runtime's way of saying so."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(words in text for words in _MEMORY_WORDS)


def trimmer() -> Callable[[], None]:
    """Return what gives freed memory back to the system; it does nothing where there is no need.

    glibc keeps the pages of the largest batch for ever otherwise. Other C libraries have no
    `malloc_trim`.
    """
    if sys.platform != "linux":
        return lambda: None
    import ctypes  # noqa: PLC0415 (native, and this module has to be read where that fails)

    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return lambda: None
    trim.argtypes, trim.restype = [ctypes.c_size_t], ctypes.c_int
    return partial(trim, 0)
