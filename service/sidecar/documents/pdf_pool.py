"""The processes that read PDFs: a process a document, ended with its time, memory or client.

Twelve kilobytes of PDF can cost a minute of CPU, and no option of a parser prevents it. Only a
process can be ended in the middle of that, and takes its memory along.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import signal
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from sidecar.documents import worker
from sidecar.documents.pdf_process import (
    LIGHTER,
    Part,
    PdfProcess,
    PdfReading,
    PdfText,
    no_process,
    on_thread,
    refusal,
    too_busy,
)
from sidecar.problems import Problem, at_limit, bundle_gone, busy, stopping
from sidecar.process import limits
from sidecar.process.clock import Clock
from sidecar.settings import Limits

PROCESSES = 2
LOOK_S = 0.25  # how often a process is looked at
TRIES = 2
# With these a process ends for what it does; any other signal comes from outside.
_OWN_SIGNALS = {
    int(getattr(signal, f"SIG{name}", 0))  # not every system has all
    for name in ("SEGV", "BUS", "ILL", "FPE", "ABRT", "TRAP", "SYS", "XCPU")
}
_LIMITS = {worker.ENDED_THREADLESS: limits.threads, worker.ENDED_POOR: limits.memory_limit}
# A character takes six bytes of JSON at most; a page its quotes, its comma and its share.
_CHAR_BYTES, _PAGE_BYTES = 6, 16
log = logging.getLogger("sidecar.pdf_pool")


# Which of many documents is read next, which goes back to wait, and which is refused. A document's
# cost is known only when it has been read: 83 KB may take ten seconds, 20 MB a tenth of one. So
# each begins with a short turn, in a slot that long documents do not get. One that takes longer
# keeps its slot while fewer than all others are long, or while nothing waits; else it goes on
# later, with the page after those that were read, in its turn among the long ones.
TURN_S = 1.0
# All that wait have had a first turn in about this time: with many, turns are shorter.
ROUND_S = 8.0
# Small ones go first, as if they had come earlier; in the end every one is the oldest.
BYTES_PER_S = 1 << 14
LONGEST_HEAD_START_S = 10.0
FIRST_GUESS_S = 1.0
MEMORY = 0.8  # what the mean still weighs after another document


class PdfTurn:
    """What one document has: a place to wait, or to be read; `over` is done when that is lost."""

    def __init__(self, queue: PdfQueue, rank: float) -> None:
        """Wait; the lower the `rank`, the sooner it is read."""
        self.rank = rank
        self.is_long = False
        self.read_since: float | None = None
        self._queue = queue
        self._renew()

    def _renew(self) -> None:
        loop = asyncio.get_running_loop()
        self.granted: asyncio.Future[None] = loop.create_future()
        self.over: asyncio.Future[None] = loop.create_future()

    def lasts(self, now: float, turn_s: float) -> bool:
        """Return whether it is long, or has been read for `turn_s`."""
        return self.is_long or (self.read_since is not None and now - self.read_since >= turn_s)

    def ready(self) -> None:
        """Let its time begin: a process can read it."""
        if self.read_since is None:
            self.read_since = asyncio.get_running_loop().time()
            self._queue.arrange()

    def go_back(self) -> None:
        """Wait among the long ones, to go on later. Raises Problem 429 if too many do."""
        self._queue.require_room(is_long=True)
        self._queue.forget(self)
        self.is_long, self.read_since = True, None
        self._renew()
        self._queue.enter(self)

    def leave(self) -> None:
        """Need nothing any more: it was read or given up."""
        if self.read_since is not None:
            self._queue.learn(asyncio.get_running_loop().time() - self.read_since)
        self._queue.forget(self)
        self._queue.arrange()


class PdfQueue:
    """Room for `size` documents that take long, and for one more in its first turn."""

    def __init__(
        self, size: int, *, max_waiting: int, turn_s: float = TURN_S, round_s: float = ROUND_S
    ) -> None:
        """Begin empty; `max_waiting` may wait for their first turn, and as many after it."""
        self._size = size
        self._max_waiting = max_waiting
        self._turn_s = turn_s
        self._round_s = round_s
        self._mean_s = FIRST_GUESS_S
        self._waiting: list[PdfTurn] = []
        self._running: list[PdfTurn] = []  # in the order in which they were granted
        self._timer: asyncio.TimerHandle | None = None

    def join(self, size: int) -> PdfTurn:
        """Return the slot of a document of `size` bytes. Raises Problem 429."""
        self.require_room()
        head_start = min(size / BYTES_PER_S, LONGEST_HEAD_START_S)
        slot = PdfTurn(self, asyncio.get_running_loop().time() + head_start)
        self.enter(slot)
        return slot

    def require_room(self, *, is_long: bool = False) -> None:
        """Raise Problem 429 if as many wait for their first turn, or after it, as may.

        So long ones, however many, do not keep short ones out.
        """
        if sum(slot.is_long is is_long for slot in self._waiting) >= self._max_waiting:
            what = "too many PDFs are queued"
            why = f"{self._max_waiting} may wait, and as many that were found to take long"
            raise busy(what, why, retry_s=self._expected_s())

    def enter(self, slot: PdfTurn) -> None:
        """Let `slot` wait."""
        self._waiting.append(slot)
        self._waiting.sort(key=lambda other: other.rank)
        self.arrange()

    def forget(self, slot: PdfTurn) -> None:
        """Take `slot` out of the queue, or out of those that are read."""
        for found in (self._waiting, self._running):
            if slot in found:
                found.remove(slot)

    def learn(self, seconds: float) -> None:
        """Note how long a document was read."""
        self._mean_s = MEMORY * self._mean_s + (1 - MEMORY) * seconds

    def arrange(self) -> None:
        """Grant what is free, and end the turns of those that keep others waiting."""
        now = asyncio.get_running_loop().time()
        fresh = [slot for slot in self._waiting if not slot.is_long]
        again = [slot for slot in self._waiting if slot.is_long]
        turn_s = min(self._turn_s, self._round_s / max(len(fresh), 1))
        long = [slot for slot in self._running if slot.lasts(now, turn_s)]
        while len(self._running) <= self._size:
            if again and len(long) < self._size:
                slot = again.pop(0)
                long.append(slot)
            elif fresh:
                slot = fresh.pop(0)
            else:
                break
            self._waiting.remove(slot)
            self._running.append(slot)
            _settle(slot.granted)
        surplus = len(long) - self._size
        if self._waiting and surplus > 0:
            # Those that were begun last have the least to lose.
            for slot in [slot for slot in long if not slot.is_long][-surplus:]:
                _settle(slot.over)
        self._watch(now, turn_s)

    def _watch(self, now: float, turn_s: float) -> None:
        """Arrange again when the next turn is over."""
        ends = [
            slot.read_since + turn_s
            for slot in self._running
            if slot.read_since is not None and not slot.lasts(now, turn_s)
        ]
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if ends and self._waiting:
            self._timer = asyncio.get_running_loop().call_at(min(ends), self.arrange)

    def _expected_s(self) -> float:
        """Return when one that comes now might be begun, as far as those before it tell."""
        now = asyncio.get_running_loop().time()
        since = [slot.read_since for slot in self._running if slot.read_since is not None]
        running_s = sum(now - moment for moment in since) / max(len(since), 1)
        return max(self._mean_s, running_s) * (len(self._waiting) + 1) / self._size


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():  # the task that waits for it may have been cancelled
        future.set_result(None)


class _OverError(Exception):
    """A document has had its turn, and others wait."""


class _StoppedError(Exception):
    """A process was stopped or ended by something other than the document."""


class PdfPool:
    """Reads PDFs, a few at a time, each in a separate process that is then gone.

    A process takes 0.15 s of CPU until it can read. From `start_ahead` or the first PDF on one is
    kept ready: it reads a PDF even where the bundle that it came from is gone (`is_gone`).
    One that is stopped or killed from outside is replaced, once, and the document not blamed.
    Where others wait, one that takes long goes on `again` later, after those that have not had
    their turn of `turn_s`; `processes` such are read at once, and one that is in its first turn.
    `counts` says how documents ended: read, refused, timeout, full, crash, left; and how often one
    went back to wait, and a process was stopped.
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
        self._queue = PdfQueue(processes, max_waiting=limits.max_waiting_pdfs, turn_s=turn_s)
        self._is_gone = is_gone
        self._spare: PdfProcess | None = None
        self._running: set[PdfProcess] = set()
        self._is_closed = False
        self.counts: Counter[str] = Counter()
        # What holds the processes, as far as is known.
        self.sandbox: worker.Sandbox = worker.possible_sandbox()
        self._is_warned = False

    @property
    def processes(self) -> int:
        """The processes that there are now."""
        return len(self._running) + (self._spare is not None)

    async def read(self, data: bytes, *, password: str | None = None) -> PdfText:
        """Return what the worker says of the PDF `data`, which `password` opens if it is encrypted.

        Cancelled, it ends the process. To be called on the thread that ends last, as Linux ends
        processes with the thread that started them. Raises Problem 422, 429 if too many wait, and
        503 when closed.
        """
        if b"%PDF-" not in data[: worker.HEAD_BYTES]:
            self.counts["refused"] += 1
            raise refusal("not-pdf")
        reading = PdfReading(self._limits, password=password)
        slot = self._queue.join(len(data))
        try:
            while True:
                await slot.granted
                try:
                    return await self._try(data, reading, slot)
                except _OverError:
                    if reading.is_done:  # its last page came in that moment
                        return self._whole(reading)
                    slot.go_back()
                    self.counts["again"] += 1
        except asyncio.CancelledError:
            self.counts["left"] += 1
            raise
        finally:
            slot.leave()

    def require_room(self) -> None:
        """Raise Problem 429 if another PDF would be refused now."""
        self._queue.require_room()

    async def _try(self, data: bytes, reading: PdfReading, slot: PdfTurn) -> PdfText:
        stops = 0
        while stops < TRIES:
            if self._is_closed:
                raise stopping()
            process = self._take()
            self._running.add(process)
            try:
                await self._ask(process, data, reading, slot)
            except _StoppedError:
                self.counts["stopped"] += 1
                stops += 1
                reading.wall_left_s = self._limits.document_wall_s
            except Problem as problem:
                if not reading.goes_on_after(problem):
                    raise
            finally:
                process.kill()
                self._running.discard(process)
                self._refill()
            if reading.is_done:
                return self._whole(reading)
        why = f"something outside stopped or ended {TRIES} of them, as short memory does, too"
        raise no_process("no process could read the whole PDF", why)

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

    def _whole(self, reading: PdfReading) -> PdfText:
        """Return what was read. Raises Problem 422 if that is nothing."""
        found = reading.extracted()
        if not any(page.strip() for page in found.pages):
            self.counts["refused"] += 1
            if reading.problem is not None:
                raise reading.problem
            kinds = {loss.kind for loss in found.losses}
            if "time" in kinds:
                raise self._too_slow()
            raise refusal("unreadable" if "page" in kinds else "scanned")
        self.counts["read"] += 1
        return found

    async def _ask(
        self, process: PdfProcess, data: bytes, reading: PdfReading, slot: PdfTurn
    ) -> None:
        limits = self._limits
        most = limits.max_document_chars * _CHAR_BYTES + limits.max_pages * _PAGE_BYTES + 1024
        tell = asyncio.get_running_loop().call_soon_threadsafe
        ready = functools.partial(tell, slot.ready)
        asked = on_thread(lambda: process.ask(data, reading, max_bytes=most, on_ready=ready))
        try:
            answer = await self._wait(process, asked, reading, slot)
        finally:
            reading.end()
        if isinstance(answer, Problem):
            if answer.kind == "document-unreadable" and self._is_gone():
                raise bundle_gone()
            self.counts["refused"] += 1
            raise answer
        self._note(answer.sandbox)

    def _note(self, held: worker.Sandbox | None) -> None:
        """Take what holds a process, and say once where that is less than it should be."""
        self.sandbox = held or self.sandbox
        if held == "rlimits" and sys.platform != "darwin" and not self._is_warned:
            self._is_warned = True
            log.warning("the system refuses the seccomp filter of the processes that read PDFs")

    async def _wait(
        self,
        process: PdfProcess,
        asked: Future[Part | Problem | None],
        reading: PdfReading,
        slot: PdfTurn,
    ) -> Part | Problem:
        """Return what `process` says last.

        Raises _StoppedError if no time or end of it counts, _OverError if it keeps others waiting.
        """
        clock = self._clock
        answering = asyncio.wrap_future(asked)
        over = clock.tick() + reading.wall_left_s
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
                    # What was suspended with this process ends by its own timers then.
                    if clock.absences > absences:
                        raise _StoppedError
                    raise self._ended(process)
                if done:
                    raise _OverError
                # One that was stopped with this process may go on a moment later.
                if clock.absences == seen and process.is_stopped:
                    raise _StoppedError
        finally:
            reading.wall_left_s = over - clock.tick()
            answering.cancel()
        if clock.absences > absences:
            raise _StoppedError
        self.counts["timeout"] += 1
        raise too_busy(self._limits.document_wall_s)

    def _ended(self, process: PdfProcess) -> Problem | _StoppedError:
        """Return what a process means that ended without an answer."""
        if self._is_closed:
            return stopping()
        code = process.returncode
        if code is not None and code < 0 and -code not in _OWN_SIGNALS:
            return _StoppedError()
        if code in (worker.ENDED_SLOW, -getattr(signal, "SIGXCPU", 0)):
            return self._too_slow()
        if code == worker.ENDED_FULL:
            self.counts["full"] += 1
            return refusal("too-complex")
        return self._crashed(process)

    def _crashed(self, process: PdfProcess) -> Problem:
        if self._is_gone():
            return bundle_gone()
        what, code = "the process that reads PDFs failed to start", process.returncode
        met = _LIMITS.get(code or 0)
        if met is not None:
            return at_limit(what, met())
        if not process.is_ready:
            return no_process(what, f"it ended with code {code}")
        self.counts["crash"] += 1
        return refusal("crash")

    def _too_slow(self) -> Problem:
        self.counts["timeout"] += 1
        what = f"the PDF could not be read in {self._limits.document_cpu_s:g} seconds of CPU time"
        return Problem("document-timeout", what, next_step=LIGHTER)

    def _take(self) -> PdfProcess:
        """Return the spare process if there is one that lives, else a new one."""
        spare, self._spare = self._spare, None
        if spare is not None:
            if spare.poll() is None and not spare.is_stopped:
                return spare
            spare.end()
        if self._is_gone():
            raise bundle_gone()
        try:
            return PdfProcess(self._limits, self._is_gone)
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
            self._spare = PdfProcess(self._limits, self._is_gone)
