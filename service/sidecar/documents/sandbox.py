"""What bounds the process that reads a document, whose parser is native code fed by strangers.

On Linux a seccomp filter lists the system calls that computing, memory, time and open pipes take;
all others fail with EPERM, as root, too: no file, socket, program, process or thread can be had.
They fail rather than end the process, as code that looks for fonts, or would like a thread, goes on
without: PDFium starts none. Packages for such filters need a libseccomp of the machine's; these are
sixty numbers, so they are written here. What Linux, macOS and Windows have besides are limits.

seccomp(2), Linux 4.14 or newer; elsewhere, and where a kernel refuses, as emulators do, the limits
stand alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import sys
from typing import Literal

Sandbox = Literal["seccomp", "job", "rlimits"]

MEMORY_BYTES = 1 << 30
_NO_NEW_PRIVILEGES = 38  # of prctl
_SET_FILTER, _ACTION_AVAILABLE = 1, 2  # of seccomp
_ALL_THREADS = 1
_ALLOW, _EPERM = 0x7FFF_0000, 0x0005_0001  # what a filter returns
_LOAD, _IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # of its program
_NUMBER_AT, _ARCHITECTURE_AT = 0, 4  # in what it is given
# The calls that are let through, for pipes, memory, signals, threads, time, and what the process
# is: their names, and their numbers on x86-64 and on arm64. Those of waiting and time exist in an
# old and a new form, and arm64 has the new one alone.
_CALLS = """
read 0 63, readv 19 65, write 1 64, writev 20 66, close 3 57, fstat 5 80, lseek 8 62, poll 7 -,
ppoll 271 73, select 23 -, pselect6 270 72, brk 12 214, mmap 9 222, mremap 25 216,
mprotect 10 226, munmap 11 215, madvise 28 233, membarrier 324 283, rt_sigaction 13 134,
rt_sigprocmask 14 135, rt_sigreturn 15 139, sigaltstack 131 132, restart_syscall 219 128,
futex 202 98, futex_wait 455 455, futex_wake 454 454, set_robust_list 273 99, rseq 334 293,
sched_yield 24 124, sched_getaffinity 204 123, gettid 186 178, exit 60 93, exit_group 231 94,
time 201 -, times 100 153, gettimeofday 96 169, clock_gettime 228 113, clock_getres 229 114,
clock_nanosleep 230 115, nanosleep 35 101, getpid 39 172, getppid 110 173, getuid 102 174,
geteuid 107 175, getgid 104 176, getegid 108 177, uname 63 160, sysinfo 99 179,
getrlimit 97 163, getrusage 98 165, getrandom 318 278
"""


def _numbers(column: int) -> list[int]:
    found = (call.split()[column] for call in _CALLS.split(","))
    return sorted(int(number) for number in found if number != "-")


# By the name of the machine: its number for filters, that of seccomp itself, and those calls.
_MACHINES = {"x86_64": (0xC000_003E, 317, _numbers(1)), "aarch64": (0xC000_00B7, 277, _numbers(2))}
_JOB_LIMITS = 9  # JobObjectExtendedLimitInformation
_JOB_FLAGS = 0x100 | 0x8 | 0x2  # memory of a process, number of processes, time of a process


def kind() -> Sandbox:
    """Return what a process that reads documents can be bounded by here."""
    if sys.platform == "win32":
        return "job"
    action = ctypes.c_uint32(_EPERM & 0xFFFF_0000)
    return "seccomp" if _seccomp(_ACTION_AVAILABLE, 0, action) else "rlimits"


def confine(seconds: int) -> None:
    """Let the system end this process at `seconds` of CPU or 1 GiB, without a dump.

    macOS does not hold processes to an address space; there the worker looks at its memory.
    """
    if sys.platform == "win32":
        with contextlib.suppress(Exception):  # fewer limits are better than no document
            _join_job(seconds)
        return
    _limit("RLIMIT_CPU", seconds, seconds + 1)
    _limit("RLIMIT_AS", MEMORY_BYTES, MEMORY_BYTES)
    _limit("RLIMIT_CORE", 0, 0)
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)


def seal() -> Sandbox:
    """Take from this process, all of its threads, whatever it does not need to compute.

    To be called when all is imported and every thread runs. Returns what holds it then.
    """
    if sys.platform == "win32":
        return "job" if _is_in_job() else "rlimits"
    # No byte to a file, no new descriptor, and, but for root, no process: where there is no filter.
    for name in ("RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_NPROC"):
        _limit(name, 0, 0)
    program = _program()
    if program is None:
        return "rlimits"
    steps = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: how many steps of eight bytes, and where they are.
    given = struct.pack("@HP", len(program) // 8, ctypes.addressof(steps))
    is_held = _seccomp(_SET_FILTER, _ALL_THREADS, ctypes.create_string_buffer(given, len(given)))
    return "seccomp" if is_held else "rlimits"


def _limit(name: str, soft: int, hard: int) -> None:
    import resource  # noqa: PLC0415 (not on Windows)

    with contextlib.suppress(ValueError, OSError, AttributeError):
        resource.setrlimit(getattr(resource, name), (soft, hard))


def _machine() -> tuple[int, int, list[int]] | None:
    return _MACHINES.get(os.uname().machine) if sys.platform == "linux" else None


def _seccomp(
    operation: int, flags: int, given: ctypes.Array[ctypes.c_char] | ctypes.c_uint32
) -> bool:
    machine = _machine()
    if machine is None:
        return False
    try:
        call = ctypes.CDLL(None).syscall
        call.restype = ctypes.c_long
        done = call(
            *(ctypes.c_long(machine[1]), ctypes.c_ulong(operation), ctypes.c_ulong(flags)),
            ctypes.byref(given),
        )
    except (OSError, AttributeError):
        return False
    return bool(done == 0)


def _program() -> bytes | None:
    """Return the filter, of struct sock_filter; None for a machine whose numbers are not known."""
    machine = _machine()
    if machine is None:
        return None
    architecture, _, numbers = machine
    # A jump counts the steps that it passes over; the last two are to refuse and to allow.
    steps = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_IF_EQUAL, 0, len(numbers) + 1, architecture),
        (_LOAD, 0, 0, _NUMBER_AT),
        *((_IF_EQUAL, len(numbers) - at, 0, number) for at, number in enumerate(numbers)),
        (_RETURN, 0, 0, _EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def _join_job(seconds: int) -> None:
    """Enter a job object of this process alone: no child, 1 GiB, `seconds` (Windows, unmeasured).

    The job's handle is left open: the system closes it with the process.
    """
    # JOBOBJECT_EXTENDED_LIMIT_INFORMATION on 64 bits: two times in units of 100 ns, the flags, two
    # sizes of working sets, the number of processes, ...; six counters; the memory of a process.
    limits = struct.pack(
        "<qqI4xQQI4xQII6QQQQQ",
        *(seconds * 10_000_000, 0, _JOB_FLAGS, 0, 0, 1, 0, 0, 0),
        *(0,) * 6,
        *(MEMORY_BYTES, 0, 0, 0),
    )
    kernel = ctypes.CDLL("kernel32")
    kernel.CreateJobObjectW.restype = ctypes.c_void_p
    kernel.GetCurrentProcess.restype = ctypes.c_void_p
    job = ctypes.c_void_p(kernel.CreateJobObjectW(None, None))
    kernel.SetInformationJobObject(job, _JOB_LIMITS, limits, len(limits))
    kernel.AssignProcessToJobObject(job, ctypes.c_void_p(kernel.GetCurrentProcess()))


def _is_in_job() -> bool:
    with contextlib.suppress(Exception):
        kernel = ctypes.CDLL("kernel32")
        kernel.GetCurrentProcess.restype = ctypes.c_void_p
        answer = ctypes.c_int()
        process = ctypes.c_void_p(kernel.GetCurrentProcess())
        return bool(kernel.IsProcessInJob(process, None, ctypes.byref(answer)) and answer.value)
    return False
