"""One process that reads a PDF: how it is started, told what to do, listened to, and understood.

What it says is checked, as it reads hostile bytes. One that ends in the middle costs the page that
it was at: another goes on with the next.
"""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import IO, Literal, TypeVar, cast

import orjson
from pydantic import TypeAdapter, ValidationError

from sidecar.documents import worker
from sidecar.documents.losses import Loss, LossKind, Note, merged
from sidecar.documents.worker import LEAST_PAGE_S, PAGE_SHARE, Sandbox
from sidecar.problems import Problem
from sidecar.process.children import is_stopped, needed
from sidecar.scheduling.tokenizing import fulfil
from sidecar.settings import Limits

# So many pages may end their worker; and with less time than this no further one is started.
MAX_SKIPPED = 16
LEAST_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class PdfText:
    """The text of each page in order, empty for one that is skipped, and what was lost."""

    pages: list[str]
    losses: tuple[Loss, ...] = ()
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Part(PdfText):
    """A message of a worker's: the next pages of a document that has `of`.

    `cpu` are the seconds that it computed so far, `sandbox` what holds it.
    """

    of: int | None = None
    cpu: float = 0.0
    sandbox: Sandbox | None = None
    more: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Refused:
    error: str


_MESSAGE: TypeAdapter[Part | _Refused] = TypeAdapter(Part | _Refused)


def understood(body: bytes) -> Part | Problem | None:
    """Return what the worker says in `body`, None if that is nothing that it says."""
    try:
        message = _MESSAGE.validate_json(body, strict=True)
    except ValidationError:
        return None
    return refusal(message.error) if isinstance(message, _Refused) else message


class PdfReading:
    """A document as far as it was read: by one worker, or by several, one after the other.

    `cpu_left_s` is what they may compute, `wall_left_s` how long they may take, `problem` what
    ended the first of them. Filled by the thread that listens to a worker while that has its turn,
    and looked at after it.
    """

    def __init__(self, limits: Limits, *, password: str | None = None) -> None:
        self.cpu_left_s = limits.document_cpu_s
        self.wall_left_s = limits.document_wall_s
        self.pages: list[str] = []
        self.losses: list[Loss] = []
        self.notes: list[Note] = []
        self.of: int | None = None
        self.is_done = False
        self.problem: Problem | None = None
        self._limits = limits
        self._password = password
        self._skipped = self._turn = 0
        self._lock = threading.Lock()
        self._worker_cpu_s, self._heard_s = 0.0, time.monotonic()

    def begin(self) -> tuple[int, dict[str, object]]:
        """Return the turn of the next worker, and what it is told."""
        with self._lock:
            self._turn += 1
            self._worker_cpu_s, self._heard_s = 0.0, time.monotonic()
            told: dict[str, object] = {
                "first": len(self.pages) + 1,
                "seconds": self.cpu_left_s,
                "room": self._limits.max_document_chars - sum(map(len, self.pages)),
                "password": self._password,
            }
            return self._turn, told

    def end(self) -> None:
        """Take no more from the worker whose turn it was: what it says is in the pipe still."""
        with self._lock:
            self._turn += 1

    def add(self, said: Part, turn: int) -> None:
        """Take what a worker says while it is its turn."""
        with self._lock:
            if turn != self._turn:
                return
            self.pages += said.pages
            self.losses += said.losses
            self.notes += said.notes
            self.of = said.of
            self.cpu_left_s -= said.cpu - self._worker_cpu_s
            self._worker_cpu_s, self._heard_s = said.cpu, time.monotonic()
            self.is_done = not said.more

    def goes_on_after(self, problem: Problem) -> bool:
        """Return whether `problem` costs a page, or the rest of them, and not the document."""
        if self.is_done:  # it came after the last page
            return True
        self.problem = self.problem or problem
        match problem.kind:
            case "document-busy":
                return self.stop("busy")
            case "document-timeout":
                return self.skip("time")
            case "document-crash" | "document-too-complex":
                return self.skip("page")
            case _:
                return False

    def skip(self, kind: Literal["page", "time"]) -> bool:
        """Go on after the page that ended its worker; False if no page was reached."""
        if self.of is None:
            return False
        # What it computed for this page was not said any more: its share at most.
        share = self.cpu_left_s / max(1, min(PAGE_SHARE, self._last - len(self.pages)))
        self.cpu_left_s -= min(max(share, LEAST_PAGE_S), time.monotonic() - self._heard_s)
        self._lose(kind, 1)
        self._skipped += 1
        if self._skipped >= MAX_SKIPPED or self.cpu_left_s < LEAST_S:
            self.stop("time")
        self.is_done = self.is_done or len(self.pages) >= self._last
        return True

    def stop(self, kind: Literal["time", "busy"]) -> bool:
        """Leave the rest out; False if no page was reached."""
        if self.of is None:
            return False
        self._lose(kind, self._last - len(self.pages))
        self.is_done = True
        return True

    def extracted(self) -> PdfText:
        """Return what was read."""
        return PdfText(pages=self.pages, losses=merged(self.losses), notes=merged(self.notes))

    @property
    def _last(self) -> int:
        return min(self.of or 0, self._limits.max_pages)

    def _lose(self, kind: LossKind, count: int) -> None:
        first = len(self.pages) + 1
        pages = tuple(range(first, first + count))
        self.losses.append(Loss(kind=kind, count=count, pages=pages))
        if kind in ("page", "time") and count == 1:
            self.pages.append("")


LIGHTER = "print it to a new PDF, or split it"
# By the word that the worker says: what, why, next.
REFUSALS = {
    "not-pdf": (
        "the file is not a PDF",
        "it does not begin with a PDF header",
        "give it the right suffix or Content-Type",
    ),
    "encrypted": (
        "the PDF is encrypted",
        "its text cannot be read without its password",
        "send it: as the field password, or as the header X-Document-Password of an upload",
    ),
    "password": (
        "the password does not open the PDF",
        "",
        "send the one that opens it in a viewer",
    ),
    "scanned": (
        "the PDF has no text",
        "its pages have only pictures, as from a scanner, or nothing",
        "run text recognition (OCR) over it first",
    ),
    "no-pages": ("the PDF has no pages", "", "check the program that made it"),
    "unreadable": (
        "the PDF cannot be read",
        "it is damaged or was cut short",
        "download it again, or open it in a viewer and save a copy",
    ),
    "too-complex": (
        "the PDF needs too much memory or work",
        "it exceeds the limits of a document",
        LIGHTER,
    ),
    "crash": ("the PDF could not be read", "the process that read it crashed", LIGHTER),
}


def refusal(word: str) -> Problem:
    """Return the problem that stands for a word of the worker's."""
    known = word if word in REFUSALS else "unreadable"
    what, why, step = REFUSALS[known]
    return Problem(f"document-{known}", what, why=why, next_step=step)


def no_process(what: str, why: str) -> Problem:
    """Return the problem of a document that no process was there to read."""
    return Problem("no-process", what, why=why, next_step="try again", retry_s=5)


def too_busy(seconds: float) -> Problem:
    """Return the problem of a document of which no page was read in `seconds`."""
    return Problem(
        "document-busy",
        f"no page of the PDF was read within {seconds:g} seconds",
        why="the machine is too busy",
        next_step="send it again when the machine is less busy",
        retry_s=30,
    )


LAST_WORD_S = 1.0
# What a process may compute until it is ready, in seconds.
_READY_S = 2
R = TypeVar("R")


class PdfProcess(subprocess.Popen[bytes]):
    """A process that reads one document; `ask` waits for its end."""

    def __init__(self, limits: Limits, is_gone: Callable[[], bool]) -> None:
        arguments = (
            limits.max_pages,
            limits.max_document_chars,
            math.ceil(limits.document_cpu_s) + _READY_S,
            os.getpid(),
        )
        super().__init__(
            [sys.executable, "-I", "-B", worker.__file__, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=needed(os.environ),  # no token or key goes along
            cwd=os.path.abspath(os.sep),  # noqa: PTH100 (it holds no folder in use)
        )
        self._is_gone = is_gone
        try:
            self.ready = on_thread(self._is_said)
        except RuntimeError:  # no thread to be had
            self.end()
            raise

    @property
    def is_stopped(self) -> bool:
        """Whether something has it wait."""
        return is_stopped(self.pid)

    @property
    def is_ready(self) -> bool:
        """Whether it had loaded all that it needs while the bundle was still the service's own."""
        return self.ready.done() and self.ready.result()

    def ask(
        self, data: bytes, reading: PdfReading, *, max_bytes: int, on_ready: Callable[[], object]
    ) -> Part | Problem | None:
        """Return the last that it says, or None if it ended before; it has ended then in any case.

        What it says goes to `reading`. Blocks, and is let go by `kill`. Calls `on_ready` when the
        process can read.
        """
        sent = cast("IO[bytes]", self.stdin)
        turn, told = reading.begin()
        answer = None
        try:
            if self.ready.result():
                on_ready()
                # It may end before it has read all, and tells by its exit code why.
                with contextlib.suppress(OSError):
                    for message in (orjson.dumps(told), data):
                        sent.write(worker.LENGTH.pack(len(message)))
                        sent.write(message)
                    sent.flush()
                answer = self._last(reading, turn, max_bytes)
            if answer is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.wait(LAST_WORD_S)
            return answer
        finally:
            self.end()

    def _last(self, reading: PdfReading, turn: int, max_bytes: int) -> Part | Problem | None:
        said = cast("IO[bytes]", self.stdout)
        while True:
            head = said.read(worker.LENGTH.size)
            size = worker.LENGTH.unpack(head)[0] if len(head) == worker.LENGTH.size else 0
            answer = understood(said.read(size)) if 0 < size <= max_bytes else None
            max_bytes -= size
            if isinstance(answer, Part):
                reading.add(answer, turn)
                if answer.more:
                    continue
            return answer

    def _is_said(self) -> bool:
        said = b""
        with contextlib.suppress(OSError, ValueError):  # it was ended, and its pipe closed
            said = cast("IO[bytes]", self.stdout).read(len(worker.READY))
        if said == worker.READY and not self._is_gone():
            return True
        if said:  # what it loaded may be another bundle's
            self.kill()
        return False

    def end(self) -> None:
        """End it, wait for that, and close its pipes."""
        self.kill()
        self.wait()
        for pipe in (self.stdin, self.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what it never read
                    pipe.close()


def on_thread(work: Callable[[], R]) -> Future[R]:
    """Return the future of what `work` returns, done on a thread that keeps no program alive."""
    made: Future[R] = Future()
    made.set_running_or_notify_cancel()  # so that it is not cancelled before the thread begins
    threading.Thread(target=fulfil, args=(work, made), name="document", daemon=True).start()
    return made
