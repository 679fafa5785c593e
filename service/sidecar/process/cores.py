"""How many threads compute fastest here: one per physical core that this process may use."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from sidecar.process import cgroups
from sidecar.process.cgroups import text_of

_CPU = "sys/devices/system/cpu"
_CORE_RELATION = 0  # RelationProcessorCore of GetLogicalProcessorInformation
_FIRST_CORES = ("hw.perflevel0.physicalcpu", "hw.physicalcpu")  # Apple's fast ones, or all


def count() -> int:
    """Return the number of physical cores that this process may use, at least 1.

    Two threads on one core share its arithmetic units and get in each other's way. On Apple's
    chips the slow cores are left out: every step would wait for them.
    """
    logical = os.cpu_count() or 1
    if sys.platform == "linux":
        found = linux(Path("/"), os.sched_getaffinity(0))
    elif sys.platform == "darwin":
        found = darwin(sysctl)
    elif sys.platform == "win32":
        found = windows(_processor_information(), ctypes.sizeof(ctypes.c_void_p))
    else:
        found = 0
    return min(found, logical) if found > 0 else logical


def logical() -> int:
    """Return the number of logical CPUs that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def linux(root: Path, cpus: Iterable[int]) -> int:
    """Return the cores behind the logical `cpus`, or less if a cgroup grants less time.

    `root` is where `sys` and `proc` are mounted. A part of a core is no core, but there is always
    one: a thread that is throttled holds up the others.
    """

    def core(cpu: int) -> str:
        """Return the name of a logical CPU's core: the list of those that share it."""
        there = root / _CPU / f"cpu{cpu}" / "topology"
        names = ("core_cpus_list", "thread_siblings_list")
        return next(filter(None, (text_of(there / name) for name in names)), str(cpu))

    return max(1, min([len(set(map(core, cpus))), *map(int, _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """Yield how many CPUs each cgroup around this process grants."""
    for folder in cgroups.folders(root, "cpu"):
        both = text_of(folder / "cpu.max").split()
        if not both:
            both = [text_of(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period")]
        try:
            quota, period = int(both[0]), int(both[1])
        except (ValueError, IndexError):  # `max`, or no file
            continue
        if quota > 0 and period > 0:
            yield quota / period


def darwin(ask: Callable[[str], int]) -> int:
    """Return the fast cores of a Mac, 0 if it does not tell; `ask` gives 0 for what is unknown.

    There are no quotas and no affinity on macOS.
    """
    return next((found for name in _FIRST_CORES if (found := ask(name)) > 0), 0)


def sysctl(name: str) -> int:
    """Return a 32-bit fact that macOS tells by name, 0 where it does not know it."""
    value, size = ctypes.c_int32(0), ctypes.c_size_t(4)
    try:
        ask = ctypes.CDLL(None).sysctlbyname
    except (OSError, AttributeError):
        return 0
    failed = ask(name.encode(), ctypes.byref(value), ctypes.byref(size), None, ctypes.c_size_t(0))
    return 0 if failed else value.value


def windows(information: bytes, pointer: int) -> int:
    """Return the cores in an array of SYSTEM_LOGICAL_PROCESSOR_INFORMATION, 0 if it has none.

    `pointer` is the size of a pointer in bytes. Each entry has a mask of that size, the relation
    as a 32-bit number, padding to a pointer, and 16 bytes more.
    """
    entry = 2 * pointer + 16
    places = range(pointer, len(information) - entry + pointer + 1, entry)
    relations = (information[at : at + 4] for at in places)
    return sum(int.from_bytes(found, "little") == _CORE_RELATION for found in relations)


def _processor_information() -> bytes:
    if sys.platform != "win32":
        return b""
    ask = ctypes.windll.kernel32.GetLogicalProcessorInformation
    size = ctypes.c_uint32(0)
    ask(None, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    return buffer.raw[: size.value] if ask(buffer, ctypes.byref(size)) else b""
