"""The program that reads one PDF and ends: run as a script, in a process that may be killed.

It writes a byte to stdout when it is ready and needs no file any more. On stdin it gets two
messages, each eight bytes of length and so many bytes: a JSON object, `{"first", "seconds", "room",
"password"}`, which says with what page to begin, how much CPU time and how many characters are left
for the document, and what opens it; and the PDF. On stdout it writes such messages, JSON objects of
one page each: `{"pages", "losses", "notes", "more", "of", "cpu", "sandbox"}`. The losses and notes
are those of docs/files.md, `of` is how many pages there are, `cpu` the seconds that were taken so
far; the last message says `"more": false`. Or `{"error": "…"}`. It has no network, no paths, no
environment and no settings but four numbers as arguments: pages, characters, seconds, and the
process that it works for. stdin stays open meanwhile: where it ends, the service has ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import select
import signal
import struct
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from sidecar.documents.pdfium import PdfDocument


# What bounds the process that reads a document, whose parser is native code fed by strangers. On
# Linux a seccomp filter lists the system calls that computing, memory, time and open pipes take;
# all others fail with EPERM, as root, too: no file, socket, program, process or thread can be had.
# They fail rather than end the process, as code that looks for fonts, or would like a thread, goes
# on without: PDFium starts none. Packages for such filters need a libseccomp of the machine's;
# these are sixty numbers, so they are written here. What Linux, macOS and Windows have besides are
# limits. seccomp(2), Linux 4.14 or newer; elsewhere, and where a kernel refuses, as emulators do,
# the limits stand alone.
Sandbox = Literal["seccomp", "job", "rlimits"]

ADDRESS_BYTES = 1 << 30
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


def possible_sandbox() -> Sandbox:
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
    _limit("RLIMIT_AS", ADDRESS_BYTES, ADDRESS_BYTES)
    _limit("RLIMIT_CORE", 0, 0)
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)


def seal() -> Sandbox:
    """Deny this process, all of its threads, the system calls that computing does not need.

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
        *(ADDRESS_BYTES, 0, 0, 0),
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


LENGTH = struct.Struct(">Q")
READY = b"r"
# A PDF may begin within so many bytes; some servers put their own before it.
HEAD_BYTES = 1 << 16
# Less than the 1 GiB of addresses that the system gives: native code that gets none crashes.
MEMORY_BYTES = 768 << 20
READ_BYTES = 1 << 20
POLL_S = 0.2
PACE_S = 0.05
# A page may take a quarter of what is left, so that bad ones leave time for the others; of the last
# pages a third, half, and all of it.
PAGE_SHARE = 4
LEAST_PAGE_S = 0.5
LISTED = 500
# What the process ends with when it may not go on; any other end without an answer is a crash.
ENDED_FULL = 12
ENDED_ALONE = 13
ENDED_THREADLESS = 14
ENDED_POOR = 15
ENDED_SLOW = 16
_PDEATHSIG = 1


class Pace:
    """The CPU time of this process, and where it ends it: `until`, in seconds of it."""

    def __init__(self, seconds: float) -> None:
        """Count from now."""
        self._began = time.process_time()
        self._seconds = seconds
        self.until = self._began + seconds

    @property
    def taken(self) -> float:
        """The seconds that were taken since it was made."""
        return time.process_time() - self._began

    def begin_page(self, pages: int) -> bool:
        """Give the next page of so many its share; False if there is none left."""
        left = self._seconds - self.taken
        self.until = time.process_time() + max(LEAST_PAGE_S, left / min(PAGE_SHARE, pages))
        return left > 0

    def keep(self) -> None:
        """End this process when the time is over; runs on a separate thread."""
        while True:
            if time.process_time() > self.until:
                os._exit(ENDED_SLOW)
            time.sleep(PACE_S)


def die_with(parent: int) -> None:
    """End this process when the service ends, even while a library holds the interpreter (Linux).

    The system sends the signal when the thread ends that started us; the service starts us on the
    thread of its event loop, which ends last.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
    if is_alone(parent):  # it ended before we asked
        os._exit(ENDED_ALONE)


def is_alone(parent: int) -> bool:
    """Return whether the service is gone; on Windows only the end of stdin tells."""
    return sys.platform != "win32" and os.getppid() != parent


def watch(parent: int, status: int | None = None) -> None:
    """End this process when stdin ends, the service is gone, or memory is over the limit.

    `status` is as for `peak_bytes`.
    """
    while not is_alone(parent):
        # Windows cannot ask a pipe, so it waits there.
        is_readable = sys.platform == "win32" or select.select([0], [], [], POLL_S)[0]
        if is_readable and not os.read(0, 1):
            break
        if peak_bytes(status) > MEMORY_BYTES:
            os._exit(ENDED_FULL)
    os._exit(ENDED_ALONE)


def own_status() -> int | None:
    """Return the descriptor of this process's status, None where there is none (but on Linux)."""
    try:
        return os.open("/proc/self/status", os.O_RDONLY)
    except OSError:
        return None


def peak_bytes(status: int | None = None) -> int:
    """Return the most memory that this process has had; 0 on Windows, where a job limits it.

    On Linux getrusage counts the memory of the service, too, out of which this process was made:
    it is asked only where there is no `status` to read.
    """
    if status is not None:
        os.lseek(status, 0, os.SEEK_SET)
        for line in os.read(status, READ_BYTES).splitlines():
            if line.startswith(b"VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource  # noqa: PLC0415 (not on Windows)
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def is_poor(error: MemoryError | OSError) -> bool:
    """Return whether memory did not suffice to load a library, rather than that it is gone.

    The C library says of both only that it failed, and of one that is gone why.
    """
    return os.strerror(errno.ENOENT) not in str(error)


def prepare() -> None:
    """Load all that reading needs, before a document comes and while the bundle is there."""
    from sidecar.documents import pdfium  # noqa: PLC0415 (after the limits)

    pdfium.start()


def receive() -> bytes | None:
    """Return the next message on stdin, None if the service wants nothing any more."""
    head = _exactly(LENGTH.size)
    return None if head is None else _exactly(*LENGTH.unpack(head))


def _exactly(size: int) -> bytes | None:
    # Unbuffered: a byte too many would be taken from the watch.
    data = bytearray()
    while len(data) < size:
        chunk = os.read(0, min(size - len(data), READ_BYTES))
        if not chunk:
            return None
        data += chunk
    return bytes(data)


def send(message: dict[str, object]) -> None:
    """Write a message to stdout."""
    body = json.dumps(message, ensure_ascii=False).encode()
    data = memoryview(LENGTH.pack(len(body)) + body)
    while data:
        data = data[os.write(1, data) :]


def parts(
    data: bytes,
    *,
    max_pages: int,
    room: int,
    first: int = 1,
    pace: Pace | None = None,
    password: str | None = None,
) -> Iterator[dict[str, object]]:
    """Yield a message for each page of a PDF, or the one that says what is wrong with it."""
    from sidecar.documents import pdfium  # noqa: PLC0415 (after the limits)

    try:
        document = pdfium.PdfDocument(data, password=password)
    except pdfium.Unfit as error:
        yield {"error": str(error)}
        return
    except MemoryError:
        yield {"error": "too-complex"}
        return
    # So that a page that ends this process costs that page.
    yield _part(document.count, more=True)
    with contextlib.closing(document):
        yield from _pages(
            document, min(document.count, max_pages), room=room, first=first, pace=pace
        )


def _pages(
    document: PdfDocument, last: int, *, room: int, first: int, pace: Pace | None
) -> Iterator[dict[str, object]]:
    from sidecar.documents import normal, pdfium  # noqa: PLC0415 (after the limits)

    for number in range(first, last + 1):
        if pace is not None and not pace.begin_page(last + 1 - number):
            yield _part(document.count, losses=[_rest("time", number, last)], more=False)
            return
        try:
            page = document.read(number, most=last)
        except pdfium.PageError:
            page = normal.Page()
            page.losses["page"] += 1
        is_cut = len(page.text) > room
        losses = [_entry(kind, count, number) for kind, count in page.losses.items() if count]
        is_last = is_cut or number == last
        if number + (not is_cut) <= document.count and is_last:
            losses.append(_rest("limit", number + (not is_cut), document.count))
        notes = [_entry(kind, count, number) for kind, count in page.notes.items() if count]
        pages = [page.text[:room]]
        yield _part(document.count, pages=pages, losses=losses, notes=notes, more=not is_last)
        room -= len(page.text)
        if is_last:
            return


def _part(of: int, **said: object) -> dict[str, object]:
    return {"pages": [], "losses": [], "notes": [], "of": of, **said}


def _entry(kind: str, count: int, number: int) -> dict[str, object]:
    return {"kind": kind, "count": count, "pages": [number]}


def _rest(kind: str, first: int, last: int) -> dict[str, object]:
    pages = range(first, last + 1)
    return {"kind": kind, "count": len(pages), "pages": [*pages[:LISTED]]}


def main() -> int:
    """Get ready, read, extract, write."""
    max_pages, max_chars, seconds, parent = (int(argument) for argument in sys.argv[1:5])
    confine(seconds)
    die_with(parent)
    try:
        prepare()
    except (MemoryError, OSError) as error:
        if is_poor(error):
            return ENDED_POOR
        raise

    os.write(1, READY)
    asked, data = receive(), receive()
    if asked is None or data is None:
        return 0
    wanted = {"room": max_chars, "seconds": seconds, **json.loads(asked)}
    pace = Pace(wanted.pop("seconds"))
    # A clock that does not need the interpreter, which a library may hold.
    try:
        threading.Thread(target=watch, args=(parent, own_status()), daemon=True).start()
        threading.Thread(target=pace.keep, daemon=True).start()
    except RuntimeError:  # the system has no thread to give
        return ENDED_THREADLESS
    held = seal()
    for part in parts(data, max_pages=max_pages, pace=pace, **wanted):
        send({**part, "cpu": pace.taken, "sandbox": held})
        if not part.get("more"):
            break
    # To close the document takes longer than to end with it.
    os._exit(0)


if __name__ == "__main__":
    # Isolated as it runs, this knows no folder but the standard library's and the packages'.
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))  # noqa: PTH100, PTH120
    code = main()
    sys.stdout.flush()
    os._exit(code)
