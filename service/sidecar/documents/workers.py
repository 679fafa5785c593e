"""The processes that read PDFs: a process a document, ended with its time, memory or client.

Twelve kilobytes of PDF can cost a minute of CPU, and no option of a parser prevents it. Only a
process can be ended in the middle of that, and takes its memory along.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from http import HTTPStatus
from typing import IO, Any, TypeVar, cast

import orjson

from sidecar.documents import worker
from sidecar.documents.extracted import Extracted, extracted
from sidecar.documents.refusals import LIGHTER, no_process, refusal
from sidecar.documents.slots import TURN_S, Slot, Slots
from sidecar.problems import Problem, at_limit, bundle_gone, stopping
from sidecar.process import limits
from sidecar.process.clock import Clock
from sidecar.process.stopped import is_stopped
from sidecar.process.surroundings import needed
from sidecar.scheduling.reader import do
from sidecar.settings import Limits

PROCESSES = 2
LAST_WORD_S = 1.0
LOOK_S = 0.25  # how often a process is looked at
TRIES = 2
# With these a process ends for what it does; any other signal comes from outside.
_OWN_SIGNALS = ("SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT", "SIGTRAP", "SIGSYS", "SIGXCPU")
# A character takes six bytes of JSON at most; a page its quotes, its comma and its share.
_CHAR_BYTES, _PAGE_BYTES = 6, 16
R = TypeVar("R")


def _numbers(names: tuple[str, ...]) -> set[int]:
    """Return the numbers of the signals that this system has."""
    return {int(getattr(signal, name)) for name in names if hasattr(signal, name)}


class _OverError(Exception):
    """A document has had its turn, and others wait."""


class _StoppedError(Exception):
    """A process was stopped or ended by something other than the document."""


class Workers:
    """Reads PDFs, a few at a time, each in a process of its own that is then gone.

    A process takes 0.15 s of CPU until it can read. From `start_ahead` or the first PDF on one is
    kept ready: it reads a PDF even where the bundle that it came from is gone (`is_gone`).
    One that is stopped or killed from outside is replaced, once, and the document not blamed.
    Where others wait, one that takes long is begun `again` later, after those that have not had
    their turn of `turn_s`; `processes` such are read at once, and one that is in its first turn.
    `counts` says how documents ended: read, refused, timeout, full, crash, left; and how often one
    was begun again, and a process was stopped.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        clock: Clock | None = None,
        processes: int = PROCESSES,
        turn_s: float = TURN_S,
        is_gone: Callable[[], bool] = lambda: False,
    ) -> None:
        """Start nothing yet; a document's time is measured on `clock`."""
        self._limits = limits
        self._clock = clock or Clock()
        self._slots = Slots(processes, max_waiting=limits.max_waiting_pdfs, turn_s=turn_s)
        self._is_gone = is_gone
        self._spare: _Process | None = None
        self._running: set[_Process] = set()
        self._is_closed = False
        self.counts: Counter[str] = Counter()

    @property
    def processes(self) -> int:
        """The processes that there are now."""
        return len(self._running) + (self._spare is not None)

    async def read(self, data: bytes) -> Extracted:
        """Return what the worker says of the PDF `data`.

        Cancelled, it ends the process. To be called on the thread that ends last, as Linux ends
        processes with the thread that started them. Raises Problem 422, 429 if too many wait, and
        503 when closed.
        """
        if b"%PDF-" not in data[: worker.HEAD_BYTES]:
            self.counts["refused"] += 1
            raise refusal("not-pdf")
        slot = self._slots.join(len(data))
        try:
            while True:
                await slot.wait()
                try:
                    return await self._try(data, slot)
                except _OverError:
                    slot.go_back()
                    self.counts["again"] += 1
        except asyncio.CancelledError:
            self.counts["left"] += 1
            raise
        finally:
            slot.leave()

    def require_room(self) -> None:
        """Raise Problem 429 if another PDF would be refused now."""
        self._slots.require_room()

    async def _try(self, data: bytes, slot: Slot) -> Extracted:
        for _ in range(TRIES):
            if self._is_closed:
                raise stopping()
            process = self._take()
            self._running.add(process)
            try:
                return await self._ask(process, data, slot)
            except _StoppedError:
                self.counts["stopped"] += 1
            finally:
                process.kill()
                self._running.discard(process)
                self._refill()
        why = f"something outside stopped or ended {TRIES} of them, as short memory does, too"
        raise no_process("no process could read the PDF to its end", why)

    async def start_ahead(self) -> None:
        """Return once a process can read the first PDF; as `read`, on the thread that ends last."""
        if not self._running:
            self._refill()
        if self._spare is not None:
            await asyncio.wrap_future(self._spare.ready)

    def close(self) -> None:
        """End all processes; documents that are being read are answered with 503."""
        self._is_closed = True
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.end()
        for process in self._running:
            process.kill()

    async def _ask(self, process: _Process, data: bytes, slot: Slot) -> Extracted:
        limits = self._limits
        most = limits.max_document_chars * _CHAR_BYTES + limits.max_pages * _PAGE_BYTES + 1024
        tell = asyncio.get_running_loop().call_soon_threadsafe
        ready = functools.partial(tell, slot.ready)
        asked = _on_thread(lambda: process.ask(data, max_bytes=most, on_ready=ready))
        answer = await self._wait(process, asked, slot)
        if isinstance(answer, Problem):
            if answer.kind == "document-unreadable" and self._is_gone():
                raise bundle_gone()
            self.counts["refused"] += 1
            raise answer
        self.counts["read"] += 1
        return answer

    async def _wait(
        self, process: _Process, asked: Future[Extracted | Problem | None], slot: Slot
    ) -> Extracted | Problem:
        """Return what `process` answers.

        Raises _StoppedError if no time or end of it counts, _OverError if it keeps others waiting.
        """
        clock = self._clock
        answering = asyncio.wrap_future(asked)
        over = clock.tick() + self._limits.document_timeout_s
        absences = seen = clock.absences
        try:
            while (left := over - clock.tick()) > 0:
                seen = clock.absences
                waited: set[asyncio.Future[Any]] = {answering, slot.over}
                done, _ = await asyncio.wait(
                    waited, timeout=min(left, LOOK_S), return_when=asyncio.FIRST_COMPLETED
                )
                clock.tick()
                if answering in done:
                    answer = answering.result()
                    if answer is not None:
                        return answer
                    # What was suspended with this process ends by timers of its own then.
                    if clock.absences > absences:
                        raise _StoppedError
                    raise self._ended(process)
                if done:
                    raise _OverError
                # One that was stopped with this process may go on a moment later.
                if clock.absences == seen and process.is_stopped:
                    raise _StoppedError
        finally:
            answering.cancel()
        raise _StoppedError if clock.absences > absences else self._too_slow()

    def _ended(self, process: _Process) -> Problem | _StoppedError:
        """Return what a process means that ended without an answer."""
        if self._is_closed:
            return stopping()
        code = process.code
        if code is not None and code < 0 and -code not in _numbers(_OWN_SIGNALS):
            return _StoppedError()
        if code == -getattr(signal, "SIGXCPU", 0):
            return self._too_slow()
        if code == worker.ENDED_FULL:
            self.counts["full"] += 1
            return refusal("too-complex")
        if code in (worker.ENDED_THREADLESS, worker.ENDED_POOR):
            what = "the process that reads PDFs could not get ready"
            is_thread = code == worker.ENDED_THREADLESS
            return at_limit(what, limits.threads() if is_thread else limits.memory())
        return self._crashed(process)

    def _crashed(self, process: _Process) -> Problem:
        if self._is_gone():
            return bundle_gone()
        if not process.is_ready:
            what = "the process that reads PDFs could not get ready"
            return no_process(what, f"it ended with code {process.code}")
        self.counts["crash"] += 1
        return refusal("crash")

    def _too_slow(self) -> Problem:
        self.counts["timeout"] += 1
        what = f"the PDF could not be read within {self._limits.document_timeout_s:g} seconds"
        return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "document-timeout", what, next_step=LIGHTER)

    def _take(self) -> _Process:
        """Return the spare process if there is one that lives, else a new one."""
        spare, self._spare = self._spare, None
        if spare is not None:
            if spare.is_alive and not spare.is_stopped:
                return spare
            spare.end()
        if self._is_gone():
            raise bundle_gone()
        try:
            return _Process(self._limits, self._is_gone)
        except OSError as error:
            if self._is_gone():
                raise bundle_gone() from error
            what = "no process could be started to read the PDF"
            limit = limits.named(error, is_start=True)
            if limit is not None:
                raise at_limit(what, limit) from error
            raise no_process(what, error.strerror or "") from error

    def _refill(self) -> None:
        """Keep a process ready for the next document."""
        if self._is_closed or self._spare is not None or self._is_gone():
            return
        # Where there is none to be had, the next document tells.
        with contextlib.suppress(OSError, RuntimeError):
            self._spare = _Process(self._limits, self._is_gone)


class _Process:
    """A process that reads one document."""

    def __init__(self, limits: Limits, is_gone: Callable[[], bool]) -> None:
        arguments = (
            limits.max_pages,
            limits.max_document_chars,
            math.ceil(limits.document_timeout_s),
            os.getpid(),
        )
        self._popen = subprocess.Popen(
            [sys.executable, "-I", "-B", worker.__file__, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=needed(os.environ),  # no token or key goes along
            cwd=os.path.abspath(os.sep),  # noqa: PTH100 (nobody's folder is held)
        )
        self._is_gone = is_gone
        try:
            self.ready = _on_thread(self._is_said)
        except RuntimeError:  # no thread to be had
            self.end()
            raise

    @property
    def is_alive(self) -> bool:
        return self._popen.poll() is None

    @property
    def is_stopped(self) -> bool:
        return is_stopped(self._popen.pid)

    @property
    def is_ready(self) -> bool:
        """Whether it had loaded all that it needs while the bundle was still the service's own."""
        return self.ready.done() and self.ready.result()

    @property
    def code(self) -> int | None:
        return self._popen.returncode

    def ask(
        self, data: bytes, *, max_bytes: int, on_ready: Callable[[], object]
    ) -> Extracted | Problem | None:
        """Return its answer, or None if it ended before; it has ended then in any case.

        Blocks, and is let go by `kill`. Calls `on_ready` when the process can read.
        """
        sent, said = cast("IO[bytes]", self._popen.stdin), cast("IO[bytes]", self._popen.stdout)
        try:
            if not self.ready.result():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._popen.wait(LAST_WORD_S)
                return None
            on_ready()
            # It may end before it has read all, and tells by its exit code why.
            with contextlib.suppress(OSError):
                sent.write(worker.LENGTH.pack(len(data)))
                sent.write(data)
                sent.flush()
            head = said.read(worker.LENGTH.size)
            size = worker.LENGTH.unpack(head)[0] if len(head) == worker.LENGTH.size else 0
            answer = _answer(said.read(size)) if 0 < size <= max_bytes else None
            if answer is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._popen.wait(LAST_WORD_S)
            return answer
        finally:
            self.end()

    def _is_said(self) -> bool:
        said = b""
        with contextlib.suppress(OSError, ValueError):  # it was ended, and its pipe closed
            said = cast("IO[bytes]", self._popen.stdout).read(len(worker.READY))
        if said == worker.READY and not self._is_gone():
            return True
        if said:  # what it loaded may be another bundle's
            self.kill()
        return False

    def kill(self) -> None:
        """End it at once, whatever it does; it is waited for by whoever asked it."""
        self._popen.kill()

    def end(self) -> None:
        """End it, wait for that, and close its pipes."""
        self._popen.kill()
        self._popen.wait()
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what it never read
                    pipe.close()


def _answer(body: bytes) -> Extracted | Problem | None:
    """Return what the worker says in `body`, None if that is nothing that it says."""
    try:
        answer = orjson.loads(body)
    except ValueError:
        return None
    match answer:
        case {"error": str(word)}:
            return refusal(word)
        case _:
            return extracted(answer)


def _on_thread(work: Callable[[], R]) -> Future[R]:
    """Return the future of what `work` returns, done on a thread that keeps no program alive."""
    made: Future[R] = Future()
    made.set_running_or_notify_cancel()  # so that it is not cancelled before the thread begins
    threading.Thread(target=do, args=(work, made), name="document", daemon=True).start()
    return made
