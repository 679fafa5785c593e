"""How much memory this process may have, whether it ran out, and giving back what was freed.

Two limits end a process without a word that helps anybody: native libraries abort when they get no
address space (RLIMIT_AS), and the kernel kills what goes beyond the memory of its control group. So
both are looked at before anything is loaded. What is needed was measured on Linux with two cores,
and is a lower bound: more cores need more.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sidecar.errors import ModelError
from sidecar.process import cgroups
from sidecar.process.cgroups import text_of

MIB = 1 << 20
ROOT = Path("/")
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

    def with_more(self, *, space: int, private: int) -> MemoryNeed:
        """Return this with so many bytes more."""
        return MemoryNeed(space=self.space + space, private=self.private + private)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLimit:
    """A limit in bytes, how many of them are left, what it is called and what raises it."""

    name: str
    limit: int
    left: int
    remedy: str


class TooLittleMemoryError(ModelError):
    """What is to be loaded does not fit; no other engine is tried, for none needs less."""


# All that is there before the model.
LIBRARIES = MemoryNeed(space=320 * MIB, private=32 * MIB)


def require(need: MemoryNeed, *, is_model: bool = True, root: Path | None = None) -> None:
    """Raise TooLittleMemoryError unless `need` may be had beside what is in use.

    `is_model` says that a smaller model would need less. `root` is where `sys` and `proc` are
    mounted.
    """
    for room, needed in ((address_space(), need.space), (control_group(root), need.private)):
        if room is not None and room.left < needed:
            raise _too_little([room], needed=needed, is_model=is_model)


def too_little(*, root: Path | None = None) -> TooLittleMemoryError:
    """Return the error for memory that ran out while the model was loaded."""
    return _too_little(
        [room for room in (address_space(), control_group(root)) if room is not None]
    )


def address_space() -> MemoryLimit | None:
    """Return what is left of the address space, None where it is not limited or not counted."""
    if sys.platform == "win32":
        return None
    import resource  # noqa: PLC0415 (not on Windows)

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    pages = text_of(Path("/proc/self/statm")).partition(" ")[0]
    if limit == resource.RLIM_INFINITY or not pages.isdecimal():
        return None
    left = max(0, limit - int(pages) * resource.getpagesize())
    return MemoryLimit(name="address space", limit=limit, left=left, remedy="raise it (ulimit -v)")


def control_group(root: Path | None = None) -> MemoryLimit | None:
    """Return what is left in the control group that has least, None where none is limited."""
    root = root or ROOT
    swap = _fields(root / "proc/meminfo").get("SwapFree:", 0) * 1024
    rooms = [
        room for folder in cgroups.folders(root, "memory") for room in _rooms(folder, swap=swap)
    ]
    return min(rooms, key=lambda room: room.left, default=None)


def _rooms(folder: Path, *, swap: int) -> Iterator[MemoryLimit]:
    """Yield the limits of one group; `swap` bytes of the machine's are free."""
    stat = _fields(folder / "memory.stat")
    current = _number(folder / "memory.current")
    if current is not None:
        taken = current - sum(stat.get(name, 0) for name in _RECLAIMABLE)
        allowed, swapped = (_number(folder / f"memory.swap.{name}") for name in ("max", "current"))
        if allowed is not None:
            swap = min(swap, max(0, allowed - (swapped or 0)))
        yield from _room(_number(folder / "memory.max"), taken - swap)
        return
    # Version 1 counts what is in use without the groups below unless asked for the total.
    cache = sum(stat.get(f"total_{name}", stat.get(name, 0)) for name in _RECLAIMABLE)
    for name, more in (("memory", swap), ("memory.memsw", 0)):
        used = _number(folder / f"{name}.usage_in_bytes")
        if used is not None:
            yield from _room(_number(folder / f"{name}.limit_in_bytes"), used - cache - more)


def _room(limit: int | None, taken: int) -> Iterator[MemoryLimit]:
    if limit is not None and limit < UNLIMITED:
        yield MemoryLimit(
            name="memory of this container or control group",
            limit=limit,
            left=max(0, limit - taken),
            remedy="raise it (docker run --memory, MemoryMax of systemd)",
        )


def _number(path: Path) -> int | None:
    """Return the number in a file of a group, None for `max` or where there is no such file."""
    text = text_of(path)
    return int(text) if text.isdecimal() else None


def _fields(path: Path) -> dict[str, int]:
    """Return the first number of each line by the word before it."""
    words = [line.split() for line in text_of(path).splitlines()]
    return {line[0]: int(line[1]) for line in words if len(line) > 1 and line[1].isdecimal()}


def _too_little(
    rooms: list[MemoryLimit], *, needed: int | None = None, is_model: bool = True
) -> TooLittleMemoryError:
    """Return the error, with the numbers that are known."""
    facts: dict[str, str | int] = {} if needed is None else {"needed_bytes": needed}
    parts = [] if needed is None else [f"it needs at least {needed} bytes more"]
    for room in rooms:
        parts.append(f"the limit of the {room.name} is {room.limit} bytes")
        parts.append(f"of which {room.left} are left")
        facts |= {"limit_bytes": room.limit, "available_bytes": room.left}
    what = "there is not enough memory to load the model"
    steps = [room.remedy for room in rooms] or ["give it more memory"]
    if is_model:
        steps.append("choose a smaller --model")
    else:
        what = "there is not enough memory to start"
    return TooLittleMemoryError(
        what, why=", ".join(parts), next_step=", or ".join(steps), facts=facts
    )


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
    trim.argtypes = [ctypes.c_size_t]
    trim.restype = ctypes.c_int

    def give_back() -> None:
        trim(0)

    return give_back
