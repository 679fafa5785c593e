"""The program that reads one PDF and ends: run as a script, in a process that may be killed.

It writes a byte to stdout when it is ready and needs no file any more, gets eight bytes of length
and the PDF on stdin, and writes eight bytes of length and one JSON object: `{"pages": [...],
"losses": [...], "notes": [...]}`, the pages as texts and the rest as in docs/files.md, or
`{"error": "…"}`. It has no network, no paths, no environment and no settings but four numbers as
arguments: pages, characters, seconds, and the process that it works for. stdin stays open
meanwhile: where it ends, the service has ended.
"""

from __future__ import annotations

import codecs
import contextlib
import faulthandler
import io
import json
import os
import select
import signal
import struct
import sys
import threading
import warnings

LENGTH = struct.Struct(">Q")
READY = b"r"
HEAD_BYTES = 1024
STREAM_BYTES = 16 << 20
MEMORY_BYTES = 1 << 30
READ_BYTES = 1 << 20
LISTED = 500
POLL_S = 0.2
# What the process ends with when it may not go on; any other end without an answer is a crash.
ENDED_FULL = 12
ENDED_ALONE = 13
ENDED_THREADLESS = 14
ENDED_POOR = 15
_PDEATHSIG = 1
_JOB_LIMITS = 9  # JobObjectExtendedLimitInformation
_JOB_FLAGS = 0x100 | 0x8 | 0x2  # memory of a process, number of processes, time of a process


def confine(seconds: int) -> None:
    """Let the system end this process at `seconds` of CPU or 1 GiB, where it can.

    macOS does not hold processes to an address space; there `watch` looks at the memory.
    """
    try:
        import resource  # noqa: PLC0415 (not on Windows)
    except ImportError:
        with contextlib.suppress(Exception):  # fewer limits are better than no document
            _join_job(seconds)
        return
    for name, soft, hard in (
        ("RLIMIT_CPU", seconds, seconds + 1),
        ("RLIMIT_AS", MEMORY_BYTES, MEMORY_BYTES),
        ("RLIMIT_CORE", 0, 0),
    ):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(getattr(resource, name), (soft, hard))


def _join_job(seconds: int) -> None:
    """Enter a job object of this process alone: no child, 1 GiB, `seconds` (Windows, unmeasured).

    The job's handle is left open: the system closes it with the process.
    """
    import ctypes  # noqa: PLC0415

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


def die_with(parent: int) -> None:
    """End this process when the service ends, even while a library holds the interpreter (Linux).

    The system sends the signal when the thread ends that started us; the service starts us on the
    thread of its event loop, which ends last.
    """
    if sys.platform == "linux":
        with contextlib.suppress(ImportError, OSError, AttributeError):
            import ctypes  # noqa: PLC0415

            ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
    if is_alone(parent):  # it ended before we asked
        os._exit(ENDED_ALONE)


def is_alone(parent: int) -> bool:
    """Return whether the service is gone; on Windows only the end of stdin tells."""
    return sys.platform != "win32" and os.getppid() != parent


def watch(parent: int) -> None:
    """End this process when stdin ends, the service is gone, or memory is over the limit."""
    while not is_alone(parent):
        # Windows cannot ask a pipe, so it waits there.
        is_readable = sys.platform == "win32" or select.select([0], [], [], POLL_S)[0]
        if is_readable and not os.read(0, 1):
            break
        if peak_bytes() > MEMORY_BYTES:
            os._exit(ENDED_FULL)
    os._exit(ENDED_ALONE)


def peak_bytes() -> int:
    """Return the most memory that this process has had; 0 on Windows, where a job limits it."""
    try:
        import resource  # noqa: PLC0415 (not on Windows)
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def prepare() -> None:
    """Load all that reading needs, while nobody waits for it and the bundle is there."""
    import pypdf._codecs._codecs  # noqa: PLC0415 (after the limits)
    import pypdf.filters  # noqa: F401, PLC0415
    from pypdf import _cmap  # noqa: PLC0415

    # Those of fonts, in whose names some PDFs write; Python reads each from a file.
    for codec in {"utf-16", *getattr(_cmap, "_predefined_cmap", {}).values()}:
        with contextlib.suppress(LookupError):
            codecs.lookup(codec)


def receive() -> bytes | None:
    """Return the document on stdin, None if the service wants nothing any more."""
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


def extract(data: bytes, *, max_pages: int, max_chars: int) -> dict[str, object]:
    """Return the text of every page of a PDF, or the word for what is wrong with it."""
    import pypdf  # noqa: PLC0415 (after the limits)
    from pypdf.errors import LimitReachedError  # noqa: PLC0415

    pypdf.overwrite_configuration(
        maximum_declared_stream_length=STREAM_BYTES,
        array_based_stream_maximum_output_length=STREAM_BYTES,
        jbig2_maximum_output_length=STREAM_BYTES,
        lzw_maximum_output_length=STREAM_BYTES,
        run_length_maximum_output_length=STREAM_BYTES,
        zlib_maximum_output_length=STREAM_BYTES,
        brotli_maximum_output_length=STREAM_BYTES,
        image_maximum_buffer_size=STREAM_BYTES,
        jbig2dec_binary=None,  # a program of the user's own
    )
    try:
        return _pages(data, max_pages=max_pages, max_chars=max_chars)
    except Unfit as error:
        return {"error": str(error)}
    except (LimitReachedError, MemoryError):
        return {"error": "too-complex"}
    except Exception:  # noqa: BLE001 (a parser meets everything here)
        return {"error": "unreadable"}


class Unfit(Exception):  # noqa: N818 (nothing failed)
    """The document has no text for us; the word says why."""


def _pages(data: bytes, *, max_pages: int, max_chars: int) -> dict[str, object]:
    import pypdf  # noqa: PLC0415

    if b"%PDF-" not in data[:HEAD_BYTES]:
        raise Unfit("not-pdf")
    reader = pypdf.PdfReader(io.BytesIO(data))
    if reader.is_encrypted:
        raise Unfit("encrypted")
    count = len(reader.pages)
    if not count:
        raise Unfit("no-pages")
    pages: list[str] = []
    room = max_chars
    for number in range(min(count, max_pages)):
        text = reader.pages[number].extract_text()
        # Half a surrogate pair cannot be written, sent or read by a tokenizer.
        text = text.encode("utf-8", "replace").decode("utf-8")
        pages.append(text[:room])
        room -= len(text)
        if room <= 0:
            break
    if not any(page.strip() for page in pages):
        raise Unfit("scanned")
    first = len(pages) + (room >= 0)  # left out, wholly or in part
    lost = {
        "kind": "limit",
        "count": count + 1 - first,
        "pages": [*range(first, count + 1)][:LISTED],
    }
    return {"pages": pages, "losses": [lost] if first <= count else [], "notes": []}


def main() -> int:
    """Get ready, read, extract, write."""
    max_pages, max_chars, seconds, parent = (int(argument) for argument in sys.argv[1:5])
    confine(seconds)
    die_with(parent)
    warnings.simplefilter("ignore")
    try:
        prepare()
    except MemoryError:
        return ENDED_POOR

    os.write(1, READY)
    data = receive()
    if data is None:
        return 0
    # A clock that does not need the interpreter, which a library may hold.
    try:
        faulthandler.dump_traceback_later(seconds + 1, exit=True)
        threading.Thread(target=watch, args=(parent,), daemon=True).start()
    except RuntimeError:  # the system has no thread to give
        return ENDED_THREADLESS
    answer = extract(data, max_pages=max_pages, max_chars=max_chars)
    body = json.dumps(answer, ensure_ascii=False).encode()
    sys.stdout.buffer.write(LENGTH.pack(len(body)) + body)
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
